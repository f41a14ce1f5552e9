//! The reader of extension frames as fuzz targets reach it.

use super::incoming::Incoming;

/// What passes of a stream in these pieces, and what was taken out, in words.
pub(crate) fn extension_frames(pieces: &[&[u8]], preface_bytes: usize) -> (Vec<u8>, Vec<String>) {
    let mut incoming = Incoming::new(preface_bytes);
    let (mut passed, mut found) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut moved = Vec::new();
        let in_place = incoming.feed(piece, &mut moved, &mut found);
        passed.extend_from_slice(piece.get(..in_place).unwrap_or_default());
        passed.append(&mut moved);
    }
    let found = found.iter().map(|found| format!("{found:?}"));
    (passed, found.collect())
}
