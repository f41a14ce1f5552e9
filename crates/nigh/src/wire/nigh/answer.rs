//! From a handler's response to frames: all of it at once if it is there, the rest as it comes.

use std::task::{Context, Poll};

use http::response::Parts;
use tonic::Status;
use tonic::body::Body;

use crate::frame::{END, Kind, fields, head};
use crate::link::{Ending, Gathered, Gone, Later, Sender, State, gather};
use crate::server::Answer;

/// Sends the answer; returns when it is sent, or the call is over for another reason.
pub(super) async fn send(sender: Sender<()>, answer: Answer) {
    let is_unseen = answer.is_unseen();
    let (response, mut watch) = answer.into_parts();
    let (mut parts, mut body) = response.into_parts();
    if fields::size(&parts.headers) > sender.header_bytes_max {
        let text = "the answer's metadata are larger than the caller takes";
        let replaced = Status::resource_exhausted(text).into_http::<Body>();
        (parts, body) = replaced.into_parts();
        watch = None;
    }
    let mut look = |cx: &mut Context<'_>| match &watch {
        None => Ok(gather(&mut body, cx)),
        Some(watch) => watch.look(|| gather(&mut body, cx)),
    };
    let mut gathered = match std::future::poll_fn(|cx| Poll::Ready(look(cx))).await {
        Ok(gathered) => gathered,
        Err(panicked) => {
            watch = None;
            (parts, body) = panicked.into_parts();
            Gathered {
                end: Some(Ending::Done),
                ..Gathered::default()
            }
        }
    };
    if let Some(watch) = watch
        && gathered.end.is_none()
    {
        body = watch.over(body);
    }
    let begun = sender.link.change(|state, later| {
        if is_unseen && state.slot(sender.stream).is_some() {
            state.out.frame(Kind::Unseen, 0, sender.stream, |_| {});
        }
        begin(&sender, &parts, &mut gathered, state, later)
    });
    drop(parts);
    if begun == Ok(false) {
        // A call that is over meanwhile needs no more of its body.
        let _ = sender.pump(gathered, body).await;
    }
}

/// Queues the head and what is there of the body; whether that was all.
fn begin(
    sender: &Sender<()>,
    parts: &Parts,
    gathered: &mut Gathered,
    state: &mut State<()>,
    later: &mut Later,
) -> Result<bool, Gone> {
    if state.slot(sender.stream).is_none() {
        return Err(Gone);
    }
    // Ahead of the head, so that one system call takes all.
    state.carry();
    let is_empty = gathered.data.is_none() && matches!(gathered.end, Some(Ending::Done));
    let flags = head::answer_flags(parts.status, &parts.headers);
    let end = if is_empty { END } else { 0 };
    state
        .out
        .frame(Kind::Headers, flags | end, sender.stream, |out| {
            head::encode_answer(parts.status, &parts.headers, flags, out);
        });
    if is_empty {
        drop(state.finish(sender.stream, later));
        later.wake(state.nudge());
        return Ok(true);
    }
    let had_end = gathered.end.is_some();
    sender.send(gathered, state, later)?;
    Ok(had_end && gathered.end.is_none())
}
