//! Messages on the wire whose shape is known from descriptors only.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Sends any message and reads answers of one shape.
pub(crate) struct Dynamic(pub(crate) MessageDescriptor);

/// Writes any message.
pub(crate) struct Writing;

/// Reads messages of one shape.
pub(crate) struct Reading(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Writing;
    type Decoder = Reading;

    fn encoder(&mut self) -> Writing {
        Writing
    }

    fn decoder(&mut self) -> Reading {
        Reading(self.0.clone())
    }
}

impl Encoder for Writing {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(into).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Reading {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), from);
        message.map(Some).map_err(|error| Status::internal(format!("an answer that cannot be read: {error}")))
    }
}
