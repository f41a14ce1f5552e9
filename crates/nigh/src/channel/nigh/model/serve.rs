//! The server's side of the model: handlers that do as they are told and are counted.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use nigh_socket::Drain;
use tonic::body::Body;

use super::plan::{Messages, Order, attach, files, pause, take};
use crate::fd::Descriptors;
use crate::frame::Greeting;
use crate::io::Io;
use crate::server::{Standing, calls_to_for_tests};
use crate::wire::{self, Served, Session};

/// Runs of handlers, by call: begun and ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Handlers {
    runs: Arc<Mutex<HashMap<u32, (u32, u32)>>>,
    wrong: Arc<Mutex<Vec<String>>>,
}

/// Counts the end of a handler, however it comes.
struct Running(Handlers, u32);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.runs.lock().unwrap().entry(self.1).or_default().1 += 1;
    }
}

impl Handlers {
    /// Serves one connection with the limits of `greeting`.
    pub(super) fn serve(&self, io: Io, greeting: Greeting, drain: Drain) -> Served {
        let mut limits = crate::Limits::default();
        limits.nigh.frame_bytes_max = greeting.frame_bytes_max;
        limits.nigh.header_bytes_max = greeting.header_bytes_max;
        limits.nigh.stream_window_bytes = greeting.stream_window;
        limits.nigh.connection_window_bytes = greeting.connection_window;
        limits.nigh.concurrent_calls_max = greeting.streams_max;
        limits.nigh.paths_max = greeting.paths_max;
        let handlers = self.clone();
        let handler = tower::service_fn(move |request: Request<Body>| {
            let handlers = handlers.clone();
            async move { Ok::<_, Infallible>(handlers.handle(request).await) }
        });
        let session = Session {
            calls: calls_to_for_tests(handler, Standing::Admitted).linked(io.link()),
            limits: Arc::new(limits),
            drain: Some(drain),
            hold: None,
        };
        let nigh = wire::all().into_iter().find(|wire| wire.name() == "nigh");
        nigh.unwrap().serve(io, session)
    }

    async fn handle(self, request: Request<Body>) -> Response<Body> {
        let (mut parts, mut body) = request.into_parts();
        let order = Order::of(&parts.headers);
        let fds = parts.extensions.remove::<Descriptors>();
        // They came ahead of HEADERS: nobody waits for them.
        let came = fds.as_ref().map_or(Ok(0), |fds| take(fds, order.id));
        if came != Ok(files(order.id)) {
            let why = format!("call {} came with {came:?} files", order.id);
            self.wrong.lock().unwrap().push(why);
        }
        self.runs.lock().unwrap().entry(order.id).or_default().0 += 1;
        let _running = Running(self.clone(), order.id);
        let mut messages = Messages::of(order.id);
        while usize::try_from(messages.count).unwrap() < order.reads {
            match body.frame().await {
                Some(Ok(frame)) => {
                    let bytes = frame.into_data().unwrap_or_default();
                    if let Err(why) = messages.take(&bytes) {
                        self.wrong.lock().unwrap().push(why);
                    }
                }
                Some(Err(_)) | None => break,
            }
        }
        pause(order.pause).await;
        if order.panics() {
            // Quietly: the panic hook would print every one.
            std::panic::resume_unwind(Box::new("as planned"));
        }
        let mut response = Response::new(order.answer());
        attach(&mut response, order.id);
        let kind = http::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", kind);
        response
    }

    pub(super) fn all_ended(&self, unsent: &std::collections::HashSet<u32>) -> Result<(), String> {
        if let Some(why) = self.wrong.lock().unwrap().first() {
            return Err(format!("a request came wrong: {why}"));
        }
        for (id, (begun, ended)) in self.runs.lock().unwrap().iter() {
            if begun != ended || *begun > 1 {
                return Err(format!(
                    "the handler of call {id} began {begun} times and ended {ended} times"
                ));
            }
            if unsent.contains(id) {
                return Err(format!(
                    "call {id} was said to be unsent, and its handler ran"
                ));
            }
        }
        Ok(())
    }
}
