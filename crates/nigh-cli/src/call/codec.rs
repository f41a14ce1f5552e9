//! A tonic codec for messages whose type is known only at run time.

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Encodes requests as they are and decodes replies into the method's output type.
#[derive(Debug, Clone)]
pub(crate) struct DynamicCodec {
    reply: MessageDescriptor,
}

impl DynamicCodec {
    pub(crate) fn new(method: &MethodDescriptor) -> Self {
        Self {
            reply: method.output(),
        }
    }
}

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = DynamicEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> DynamicEncoder {
        DynamicEncoder
    }

    fn decoder(&mut self) -> DynamicDecoder {
        DynamicDecoder {
            reply: self.reply.clone(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct DynamicEncoder;

impl Encoder for DynamicEncoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(dst)
            .map_err(|error| Status::internal(format!("request does not fit its buffer: {error}")))
    }
}

#[derive(Debug)]
pub(crate) struct DynamicDecoder {
    reply: MessageDescriptor,
}

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        // prost's own limit bounds the nesting of what the server sends.
        match DynamicMessage::decode(self.reply.clone(), src) {
            Ok(message) => Ok(Some(message)),
            Err(error) => Err(Status::internal(format!(
                "reply is not a {}: {error}",
                self.reply.full_name()
            ))),
        }
    }
}
