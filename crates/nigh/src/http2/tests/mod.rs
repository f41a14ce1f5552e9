//! Tests of the authority fix: bytes by hand, any split, any stream, and a real h2 server as the independent decoder.

mod bytes;
mod client;
mod decoded;
mod io;
mod split;

use proptest::prelude::ProptestConfig;

use super::authority::AuthorityFix;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Everything that comes out for the given pieces, and whether the watch goes on after them.
fn fix<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let mut fix = AuthorityFix::new();
    let mut all = Vec::new();
    for piece in pieces {
        let mut out = Vec::new();
        let passed = fix.feed(piece, &mut out);
        all.extend_from_slice(&piece[..passed]);
        all.append(&mut out);
    }
    let watching = fix.is_watching();
    fix.finish(&mut all);
    (all, watching)
}

/// `cases` of a property, or as many as `PROPTEST_CASES` says.
fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|n| n.parse().ok()).unwrap_or(cases),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// One frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [.., a, b, c] = payload.len().to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
