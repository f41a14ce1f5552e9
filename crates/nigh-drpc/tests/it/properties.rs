//! Properties of the wire: no bytes panic, any cut gives the same message, memory stays with what came.

use bytes::{BufMut as _, Bytes};
use nigh_drpc::wire::{
    Assembler, CHUNK_BYTES_MAX, Call, CallExtensions, Chunk, Chunks, Detector, Features,
    FirstPacket, Header, Reason, Response, ResponseExtensions, Status,
};
use proptest::prelude::*;
use prost::Message as _;
use std::time::Duration;

use crate::bytes_of::packets;

/// The same two messages as a stock protobuf implementation sees them.
#[derive(Clone, PartialEq, prost::Message)]
struct StockCall {
    #[prost(int32, tag = "1")]
    module: i32,
    #[prost(int32, tag = "2")]
    method: i32,
    #[prost(int64, tag = "3")]
    sequence: i64,
    #[prost(bytes = "bytes", tag = "4")]
    body: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StockResponse {
    #[prost(int64, tag = "1")]
    sequence: i64,
    #[prost(int32, tag = "2")]
    status: i32,
    #[prost(bytes = "bytes", tag = "3")]
    body: Bytes,
}

fn body(max: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn call() -> impl Strategy<Value = Call> {
    let extensions = (
        any::<u64>(),
        prop::option::of(1_u64..),
        any::<bool>(),
        any::<u32>(),
    );
    let extensions =
        extensions.prop_map(|(features, micros, cancel, descriptors)| CallExtensions {
            features: Features::from_bits(features),
            deadline: micros.map(Duration::from_micros),
            cancel,
            descriptors,
        });
    (
        any::<i32>(),
        any::<i32>(),
        any::<i64>(),
        body(300),
        extensions,
    )
        .prop_map(|(module, method, sequence, body, extensions)| Call {
            module,
            method,
            sequence,
            body,
            extensions,
            unknown: Bytes::new(),
        })
}

fn response() -> impl Strategy<Value = Response> {
    let reason = prop::sample::select(vec![None, Some(Reason::Denied), Some(Reason::Other(77))]);
    let extensions = (any::<u64>(), any::<u32>(), any::<u32>(), ".{0,40}", reason);
    let extensions =
        extensions.prop_map(
            |(bits, window, descriptors, text, reason)| ResponseExtensions {
                features: Features::from_bits(bits),
                window,
                descriptors,
                text,
                reason,
            },
        );
    (any::<i64>(), any::<i32>(), body(300), extensions).prop_map(
        |(sequence, status, body, extensions)| Response {
            body,
            extensions,
            ..Response::new(sequence, Status::from(status))
        },
    )
}

/// Bytes that are nearly a call: a call with a few bytes changed, or anything.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let changed = (
        call(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    )
        .prop_map(|(call, changes)| {
            let mut bytes = call.encode().to_vec();
            for (at, byte) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes
        });
    prop_oneof![changed, prop::collection::vec(any::<u8>(), 0..80)]
}

/// A packet with a header that is wrong in some way, mostly.
fn header_packet() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0_u64..40, Just(u64::MAX), any::<u64>()];
    let short = prop_oneof![0_u32..5, Just(u32::MAX), any::<u32>()];
    let data = prop::collection::vec(any::<u8>(), 0..40);
    (
        number.clone(),
        prop::option::of(number),
        short.clone(),
        short,
        data,
    )
        .prop_map(|(total, length, index, count, data)| {
            let length = length.unwrap_or(data.len() as u64);
            let header = Header {
                total,
                length,
                index,
                count,
            };
            [&header.encode()[..], &data].concat()
        })
}

/// Found by fuzzing: they were read as a reason and a deadline, and written as nothing or something else.
#[test]
fn extension_fields_of_zero_are_not_there() {
    let reason = Bytes::from_static(&[0xb0, 0x64, 0]);
    assert_eq!(
        Response::decode(&reason).unwrap().extensions.reason,
        None,
        "field 1606"
    );
    let deadline = Bytes::from_static(&[0x90, 0x64, 0]);
    assert_eq!(
        Call::decode(&deadline).unwrap().extensions.deadline,
        None,
        "field 1602"
    );
}

proptest! {
    #[test]
    fn a_call_comes_back_and_stock_protobuf_agrees(call in call()) {
        let message = call.encode();
        prop_assert_eq!(Call::decode(&message).unwrap(), call.clone());
        let stock = StockCall::decode(message).unwrap();
        prop_assert_eq!(
            (stock.module, stock.method, stock.sequence, &stock.body),
            (call.module, call.method, call.sequence, &call.body)
        );
        let plain = Call { extensions: CallExtensions::default(), ..call };
        prop_assert_eq!(stock.encode_to_vec(), plain.encode().to_vec());
    }

    #[test]
    fn a_response_comes_back_and_stock_protobuf_agrees(response in response()) {
        let message = response.encode();
        prop_assert_eq!(Response::decode(&message).unwrap(), response.clone());
        let stock = StockResponse::decode(message).unwrap();
        prop_assert_eq!(
            (stock.sequence, stock.status, &stock.body),
            (response.sequence, response.status.into(), &response.body)
        );
    }

    #[test]
    fn no_bytes_panic_and_what_stock_protobuf_refuses_is_refused(bytes in nearly()) {
        let message = Bytes::from(bytes);
        let ours = Call::decode(&message);
        prop_assert_eq!(ours.is_ok(), Call::is_valid(&message));
        let _ = Response::decode(&message);
        if let (Ok(ours), Ok(stock)) = (&ours, StockCall::decode(message.clone())) {
            prop_assert_eq!(
                (stock.module, stock.method, stock.sequence, &stock.body),
                (ours.module, ours.method, ours.sequence, &ours.body)
            );
        }
        if let Ok(ours) = ours {
            prop_assert_eq!(Call::decode(&ours.encode()).unwrap(), ours);
        }
    }

    #[test]
    fn any_cut_gives_the_same_message(
        message in body(3000),
        data_max in 1_usize..700,
        others in body(200),
    ) {
        let mut assembler = Assembler::new(3000);
        let cut = Chunks::with_data_max(message.clone(), data_max);
        let mut whole = None;
        for Chunk { header, data } in cut {
            prop_assert!(data.len() <= data_max);
            prop_assert!(whole.is_none());
            whole = assembler.push(&[&header[..], &data.to_bytes()].concat()).unwrap();
            prop_assert!(assembler.capacity() <= 2 * assembler.received());
        }
        prop_assert_eq!(whole, Some(message));
        let next = assembler.push(&packets(&others)[0]).unwrap();
        prop_assert_eq!(next, Some(others));
    }

    #[test]
    fn hostile_headers_neither_panic_nor_allocate(
        packets in prop::collection::vec(header_packet(), 1..20)
    ) {
        let mut assembler = Assembler::new(1 << 20);
        let detector = Detector::new(1 << 20).unwrap();
        let mut received = 0;
        for packet in packets {
            received += packet.len();
            if let Ok(Some(message)) = assembler.push(&packet) {
                prop_assert!(message.len() <= received);
            }
            prop_assert!(assembler.capacity() <= 2 * received);
            let _ = detector.decide(&packet);
        }
    }

    /// A message is told from a chunk whatever its body holds, headers of chunks included.
    #[test]
    fn no_canonical_call_is_taken_for_a_chunk(
        call in call(),
        total in any::<u64>(),
        count in any::<u32>(),
    ) {
        let header = Header { total, length: CHUNK_BYTES_MAX as u64, index: 0, count };
        let mut crafted = header.encode().to_vec();
        crafted.put_slice(&call.body);
        let call = Call { body: crafted.into(), ..call };
        let detector = Detector::new(64 << 20).unwrap();
        prop_assert_eq!(detector.decide(&call.encode()), FirstPacket::Legacy);
        let first = &packets(&call.encode())[0];
        prop_assert_eq!(detector.decide(first), FirstPacket::Chunked);
    }
}
