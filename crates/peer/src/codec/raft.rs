//! Raft messages of all releases, read with bounds.

use api::raftpb::{Entry, Message, MessageType};
use prost::DecodeError;
use prost::encoding::{
    DecodeContext, WireType, bool, bytes, decode_key, int32, message, skip_field, uint64,
};

use super::{CodecError, MAX_ENTRIES};

/// Decodes a message of etcd 3.5, 3.6 or 3.7. Each entry gets memory of its own, so that one entry that is kept does
/// not hold all that arrived with it.
///
/// Left out are the fields that are local to Go's storage threads (13 and up), and the snapshot 3.5 writes into
/// messages that have none.
pub fn decode_message(mut input: &[u8]) -> Result<Message, CodecError> {
    let mut message = Message::default();
    while !input.is_empty() {
        let (tag, wire_type) = decode_key(&mut input).map_err(malformed)?;
        merge_field(&mut message, tag, wire_type, &mut input).map_err(malformed)?;
        if message.entries.len() > MAX_ENTRIES {
            return Err(CodecError::TooLong);
        }
    }
    Ok(message)
}

/// Decodes an entry that stands alone.
pub(super) fn decode_entry(input: &[u8]) -> Result<Entry, CodecError> {
    prost::Message::decode(input).map_err(malformed)
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn malformed(_: DecodeError) -> CodecError {
    CodecError::Malformed
}

fn merge_field(
    into: &mut Message,
    tag: u32,
    wire_type: WireType,
    input: &mut &[u8],
) -> Result<(), DecodeError> {
    let context = DecodeContext::default();
    match tag {
        1 => int32::merge(wire_type, &mut into.r#type, input, context),
        2 => uint64::merge(wire_type, &mut into.to, input, context),
        3 => uint64::merge(wire_type, &mut into.from, input, context),
        4 => uint64::merge(wire_type, &mut into.term, input, context),
        5 => uint64::merge(wire_type, &mut into.log_term, input, context),
        6 => uint64::merge(wire_type, &mut into.index, input, context),
        7 => message::merge_repeated(wire_type, &mut into.entries, input, context),
        8 => uint64::merge(wire_type, &mut into.commit, input, context),
        // Its list of members takes more memory than bytes on the wire; the place of real ones has a low limit.
        9 if into.r#type == MessageType::MsgSnap as i32 => {
            let snapshot = into.snapshot.get_or_insert_default();
            message::merge(wire_type, snapshot, input, context)
        }
        10 => bool::merge(wire_type, &mut into.reject, input, context),
        11 => uint64::merge(wire_type, &mut into.reject_hint, input, context),
        12 => bytes::merge(wire_type, &mut into.context, input, context),
        _ => skip_field(wire_type, tag, input, context),
    }
}
