//! Follows one document on a web server: asks every few seconds, and reads what has another tag or another text.

use http::HeaderValue;
use nigh::ClientTls;

use super::address::Http;
use super::fetch::{Fetched, Question, ask};
use super::seat::Seat;
use super::{ReadError, StartError, authorities};

/// Follows one document.
#[derive(Debug)]
pub(super) struct Follower {
    seat: Seat,
    source: Http,
    tls: Option<ClientTls>,
    tag: Option<HeaderValue>,
    /// Whether the last document was good: then "not changed" is good news.
    good: bool,
}

impl Follower {
    pub(super) fn new(seat: Seat, source: &Http) -> Result<Self, StartError> {
        // A plain server may send us to one with TLS: then the system's authorities are asked, if there are any.
        let tls = match source.uri.scheme_str() {
            Some("https") => Some(authorities(&source.name, source.certificate.as_deref())?),
            _ => authorities(&source.name, source.certificate.as_deref()).ok(),
        };
        Ok(Self {
            seat,
            source: source.clone(),
            tls,
            tag: None,
            good: false,
        })
    }

    /// Follows for ever.
    pub(super) async fn run(mut self) {
        loop {
            self.read_now().await;
            tokio::time::sleep(self.source.interval).await;
        }
    }

    async fn read_now(&mut self) {
        let question = Question {
            uri: &self.source.uri,
            authorization: self.source.authorization.as_ref(),
            tag: self.tag.as_ref(),
            tls: self.tls.as_ref(),
        };
        match ask(question).await {
            Ok(Fetched::Same) if self.good => self.seat.answers_again(),
            Ok(Fetched::Same) => {}
            Ok(Fetched::New { tag, text, format }) => {
                self.tag = tag;
                self.good = self.seat.offer(text, format).await;
            }
            Err(error) => self.seat.take(Err(ReadError::Http(error))),
        }
    }
}
