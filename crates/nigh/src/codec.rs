//! Messages to bytes and back for generated stubs, with memory of the message's size.
//!
//! tonic's own codec reserves 8 KiB for each direction of each call on each side, which no allocator gives cheaply. In a
//! `build.rs`: `tonic_prost_build::configure().codec_path("nigh::ProstCodec")`; nothing else of a program changes.

use std::fmt;
use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Bytes of ready messages that a stream sends as one piece; tonic's own default.
const YIELD_BYTES: usize = 32 * 1024;
/// gRPC's prefix and a short message; what is longer is reserved once its length is known.
const BUFFER_BYTES: usize = 128;

/// A codec for prost's messages, as tonic's own is, which reserves what a message takes and no more.
///
/// The bytes are the same: either side may use it alone.
pub struct ProstCodec<T, U>(PhantomData<fn(T) -> U>);

impl<T, U> Default for ProstCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Clone for ProstCodec<T, U> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<T, U> fmt::Debug for ProstCodec<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProstCodec")
    }
}

impl<T, U> Codec for ProstCodec<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder(PhantomData)
    }
}

/// The writing half of [`ProstCodec`].
pub struct ProstEncoder<T>(PhantomData<fn(T)>);

/// The reading half of [`ProstCodec`].
pub struct ProstDecoder<U>(PhantomData<fn() -> U>);

impl<T> fmt::Debug for ProstEncoder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProstEncoder")
    }
}

impl<U> fmt::Debug for ProstDecoder<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProstDecoder")
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

impl<T: Message> Encoder for ProstEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(item.encoded_len());
        let encoded = item.encode(buf);
        encoded.map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}

impl<U: Message + Default> Decoder for ProstDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Which code a message gets that is none is tonic's choice, too: "INTERNAL: failed to parse".
        let decoded = U::decode(buf).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(decoded))
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}
