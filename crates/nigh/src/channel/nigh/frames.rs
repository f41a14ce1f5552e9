//! What each frame from the server means to the calls that wait.

use tonic::{Code, Status};

use super::state::Client;
use crate::fd::Announced;
use crate::frame::{Header, Kind, Violation, decode, head};
use crate::io::Io;
use crate::link::line::Line;
use crate::link::{End, Later, State};

/// Clause 10.1.
const PINGS_MAX: usize = 1024;

/// Handles every whole frame that was read, up to one that brings descriptors.
pub(super) fn handle(
    line: &mut Line<Io>,
    header_bytes_max: usize,
    state: &mut State<Client>,
    later: &mut Later,
) -> Result<Option<Announced>, Violation> {
    while let Some(header) = line.decoder.frame()? {
        if header.kind == Kind::Fds {
            let decoder = &mut line.decoder;
            let (first, loss) = decode::fds(decoder.payload(), header.descriptors)?;
            let announced = Announced {
                stream: header.stream,
                count: header.descriptors,
                first,
                loss,
                at: decoder.offset(),
            };
            decoder.skip();
            return Ok(Some(announced));
        }
        one(line, header, header_bytes_max, state, later)?;
    }
    Ok(None)
}

fn one(
    line: &mut Line<Io>,
    header: Header,
    max: usize,
    state: &mut State<Client>,
    later: &mut Later,
) -> Result<(), Violation> {
    let Header { kind, stream, .. } = header;
    let decoder = &mut line.decoder;
    match kind {
        Kind::Data => {
            let payload = decoder.take();
            return state.data(stream, payload, header.is_last(), later);
        }
        Kind::Headers => begin(header, decoder.payload(), max, state, later)?,
        Kind::Trailers => {
            if let Some(slot) = state.slot(stream).filter(|slot| !slot.is_cancelled) {
                slot.check_order(kind, stream)?;
                slot.finish(End::Trailers(head::decode_trailers(
                    decoder.payload(),
                    max,
                )?));
                later.wake(slot.reader.take());
            }
        }
        Kind::Cancel => {
            let (code, text) = decode::reason(decoder.payload())?;
            if let Some(slot) = state.slot(stream) {
                let code = Code::from_i32(i32::try_from(code).unwrap_or(2));
                slot.is_cancelled = true;
                slot.finish(End::Failed(Status::new(code, text)));
                later.wake(slot.reader.take());
                later.wake(slot.take_sender());
            }
        }
        Kind::Unseen => {
            if let Some(slot) = state.slot(stream).filter(|slot| !slot.has_head) {
                slot.is_unseen = true;
                // The answer that follows is for those who do not know this frame.
                slot.is_cancelled = true;
                let text = "the server is stopping; try again";
                slot.finish(End::Failed(Status::unavailable(text)));
                later.wake(slot.reader.take());
                later.wake(slot.take_sender());
            }
        }
        Kind::Window => {
            let credit = decode::window(decoder.payload())?;
            state.window(stream, credit, later)?;
        }
        Kind::Ping => {
            state.own.pongs += 1;
            if state.own.pongs > PINGS_MAX {
                return Err(Violation::PingFlood { max: PINGS_MAX });
            }
            state.out.ping(Kind::Pong, decoder.payload());
            later.wake(state.nudge());
        }
        Kind::GoAway => {
            let (code, text) = decode::reason(decoder.payload())?;
            tracing::debug!("the server says goodbye: {code} {text}");
            state.own.leave();
            later.wake(state.nudge());
        }
        Kind::Pong | Kind::Fds | Kind::Ignorable(_) => {}
    }
    decoder.skip();
    Ok(())
}

/// An answer begins.
fn begin(
    header: Header,
    payload: &[u8],
    max: usize,
    state: &mut State<Client>,
    later: &mut Later,
) -> Result<(), Violation> {
    let Header { kind, stream, .. } = header;
    let Some(slot) = state.slot(stream).filter(|slot| !slot.is_cancelled) else {
        return Ok(());
    };
    if slot.has_head || slot.is_ended {
        return Err(Violation::AfterEnd { kind, stream });
    }
    slot.head = Some(head::decode_answer(payload, header.is_plain(), max)?);
    slot.has_head = true;
    if header.is_last() {
        slot.finish(End::Done);
    }
    later.wake(slot.reader.take());
    Ok(())
}
