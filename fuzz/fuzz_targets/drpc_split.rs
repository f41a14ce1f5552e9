//! dRPC's two directions: a message cut into packets of any size arrives as it was, and the next one after it.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nigh_drpc::fuzzing::{Receiver, Speaking};
use nigh_drpc::wire::Chunks;

fuzz_target!(|input: (u16, Vec<u8>, Vec<u8>)| {
    let (data_max, one, two) = input;
    let Ok(mut receiver) = Receiver::new(Speaking::Chunked, 1 << 20) else {
        return;
    };
    for message in [one, two] {
        let message = Bytes::from(message);
        let mut whole = Vec::new();
        for chunk in Chunks::with_data_max(message.clone(), usize::from(data_max)) {
            assert!(whole.is_empty());
            let packet = [&chunk.header[..], &chunk.data.to_bytes()].concat();
            match receiver.push(&packet) {
                Ok(messages) => whole = messages,
                Err(violation) => panic!("a packet of ours is refused: {violation}"),
            }
        }
        assert_eq!(whole, [message]);
    }
});
