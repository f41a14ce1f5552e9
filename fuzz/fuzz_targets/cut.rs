//! Cuts a stream into pieces, as a socket may.

/// Pieces of the lengths that `cuts` says, over and over; of length 1 to 255.
pub(crate) fn pieces<'a>(bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let mut lengths = cuts.iter().map(|cut| usize::from((*cut).max(1))).cycle();
    while !rest.is_empty() {
        let length = lengths.next().unwrap_or(1).min(rest.len());
        let (piece, after) = rest.split_at(length);
        pieces.push(piece);
        rest = after;
    }
    pieces
}
