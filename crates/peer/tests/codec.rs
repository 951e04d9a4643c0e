//! The bytes on the wire: frames of three releases as they were captured, round trips, hostile input.

use api::raftpb::{ConfState, Entry, Message, MessageType, Snapshot, SnapshotMetadata};
use bytes::{Bytes, BytesMut};
use peer::codec::{
    CodecError, Decoded, Frame, MAX_MESSAGE, MessageDecoder, MsgAppDecoder, MsgAppEncoder,
    decode_message, encode_message, encode_message_heartbeat,
};
use proptest::prelude::*;
use prost::Message as _;

/// Bytes written as hex digits, with blanks for the eye.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

const LEADER: u64 = 0x8027_cae8_a0e3_55ea;
const FOLLOWER: u64 = 0xcfa6_ba54_8327_1eb1;
/// The two ids as varints.
const LEADER_BYTES: &str = "eaab8d878addf2938001";
const FOLLOWER_BYTES: &str = "b1bd9c99c8caaed3cf01";

/// Feeds a decoder in pieces of `size` and collects what comes out.
fn decode_all(
    bytes: &[u8],
    size: usize,
    mut push: impl FnMut(&[u8]) -> Vec<Decoded>,
) -> Result<Vec<Frame>, CodecError> {
    let mut frames = Vec::new();
    for piece in bytes.chunks(size.max(1)) {
        for decoded in push(piece) {
            frames.extend(decoded?);
        }
    }
    Ok(frames)
}

fn drain(mut decode: impl FnMut() -> Decoded) -> Vec<Decoded> {
    let mut all = Vec::new();
    loop {
        let decoded = decode();
        let more = matches!(decoded, Ok(Some(_)));
        all.push(decoded);
        if !more {
            return all;
        }
    }
}

fn message_frames(bytes: &[u8], size: usize) -> Result<Vec<Frame>, CodecError> {
    let mut decoder = MessageDecoder::default();
    decode_all(bytes, size, |piece| {
        decoder.push(piece);
        drain(|| decoder.decode())
    })
}

fn msgapp_frames(bytes: &[u8], size: usize) -> Result<Vec<Frame>, CodecError> {
    let mut decoder = MsgAppDecoder::new(LEADER, FOLLOWER);
    decode_all(bytes, size, |piece| {
        decoder.push(piece);
        drain(|| decoder.decode())
    })
}

fn messages(frames: Vec<Frame>) -> Vec<Message> {
    frames
        .into_iter()
        .filter_map(|frame| frame.message)
        .collect()
}

fn entry(term: u64, index: u64, data: &'static [u8]) -> Entry {
    Entry {
        r#type: 0,
        term,
        index,
        data: Bytes::from_static(data),
    }
}

fn append(term: u64, log_term: u64, index: u64, entries: Vec<Entry>, commit: u64) -> Message {
    Message {
        r#type: MessageType::MsgApp as i32,
        to: FOLLOWER,
        from: LEADER,
        term,
        log_term,
        index,
        entries,
        commit,
        ..Message::default()
    }
}

#[test]
fn link_heartbeats_of_three_releases_are_no_messages() {
    let stream = hex("0000000000000002 0808
         0000000000000014 0808 1000 1800 2000 2800 3000 4000 5000 5800 6800
         000000000000001e 0808 1000 1800 2000 2800 3000 4000 4a0a12080a02280010001800 5000 5800");
    for size in [1, 7, stream.len()] {
        let frames = message_frames(&stream, size).unwrap();
        let bytes: Vec<usize> = frames.iter().map(|frame| frame.bytes).collect();
        assert_eq!(bytes, [2, 20, 30]);
        assert!(messages(frames).is_empty());
    }
    let mut ours = BytesMut::new();
    encode_message_heartbeat(&mut ours);
    assert_eq!(ours[..], stream[..10]);
}

#[test]
fn pre_vote_of_3_7_is_read_and_written() {
    let stream = hex(&format!(
        "000000000000001e 0811 10{FOLLOWER_BYTES} 18{LEADER_BYTES} 2002 2801 3002"
    ));
    let want = Message {
        r#type: MessageType::MsgPreVote as i32,
        to: FOLLOWER,
        from: LEADER,
        term: 2,
        log_term: 1,
        index: 2,
        ..Message::default()
    };
    assert_eq!(
        messages(message_frames(&stream, 5).unwrap()),
        std::slice::from_ref(&want)
    );
    let mut ours = BytesMut::new();
    encode_message(&want, &mut ours);
    assert_eq!(ours[..], stream[..]);
}

/// A leader's stream from its first no-op on: the whole message, then only what the follower cannot know.
#[test]
fn msgapp_stream_of_3_7_is_read() {
    let message =
        format!("0803 10{FOLLOWER_BYTES} 18{LEADER_BYTES} 2002 2801 3003 3a04 1002 1804 4003");
    let stream = hex(&format!(
        "00
         02 {:016x} {message}
         01 0000000000000000 0000000000000007
         01 0000000000000001 0000000000000009 1002 1805 2203616263 0000000000000007
         01 0000000000000001 0000000000000006 0800 1002 1806 0000000000000008",
        hex(&message).len()
    ));
    for size in [1, 3, 64, stream.len()] {
        let frames = msgapp_frames(&stream, size).unwrap();
        let total: usize = frames.iter().map(|frame| frame.bytes).sum();
        assert_eq!(total, stream.len());
        assert_eq!(
            messages(frames),
            [
                append(2, 1, 3, vec![entry(2, 4, b"")], 3),
                append(2, 2, 4, vec![], 7),
                append(2, 2, 4, vec![entry(2, 5, b"abc")], 7),
                append(2, 2, 5, vec![entry(2, 6, b"")], 8),
            ]
        );
    }
}

#[test]
fn msgapp_encoder_shortens_only_what_continues_in_the_same_term() {
    let mut encoder = MsgAppEncoder::default();
    let mut first_byte = |message: &Message| {
        let mut out = BytesMut::new();
        encoder.encode(message, &mut out);
        out[0]
    };
    // Before anything was sent, both sides stand at (0, 0), which no real message continues.
    assert_eq!(first_byte(&append(2, 1, 3, vec![entry(2, 4, b"")], 3)), 2);
    assert_eq!(first_byte(&append(2, 2, 4, vec![], 4)), 1);
    assert_eq!(
        first_byte(&append(
            2,
            2,
            4,
            vec![entry(2, 5, b"x"), entry(2, 6, b"y")],
            4
        )),
        1
    );
    // Again from further back: a probe.
    assert_eq!(first_byte(&append(2, 2, 5, vec![], 4)), 2);
    assert_eq!(first_byte(&append(2, 2, 5, vec![entry(2, 6, b"y")], 4)), 1);
    // The first entries of a new term carry the old one as previous.
    assert_eq!(first_byte(&append(3, 2, 6, vec![entry(3, 7, b"")], 6)), 2);
    assert_eq!(first_byte(&append(3, 3, 7, vec![], 7)), 1);
    // Empty whole messages move the place to their index.
    assert_eq!(first_byte(&append(3, 3, 9, vec![], 7)), 2);
    assert_eq!(first_byte(&append(3, 3, 9, vec![], 8)), 1);
}

#[test]
fn old_releases_empty_snapshot_is_dropped_and_a_real_one_kept() {
    let answer = hex("0804 1001 1802 2003 2800 3005 4000 4a0a12080a02280010001800 5000 5800");
    let message = decode_message(&answer).unwrap();
    assert_eq!(message.snapshot, None);
    assert_eq!((message.term, message.index), (3, 5));

    let snapshot = Snapshot {
        data: Bytes::from_static(b"{}"),
        metadata: SnapshotMetadata {
            conf_state: ConfState {
                voters: vec![1, 2],
                ..ConfState::default()
            },
            index: 140,
            term: 3,
        },
    };
    let message = Message {
        r#type: MessageType::MsgSnap as i32,
        snapshot: Some(snapshot),
        ..Message::default()
    };
    assert_eq!(decode_message(&message.encode_to_vec()), Ok(message));
}

#[test]
fn fields_that_are_local_to_gos_storage_are_left_out() {
    // vote, responses, and two that crate `raft` would understand.
    let bytes = hex("0808 1001 1802 2003 6805 720208 04 7801 800105");
    let message = decode_message(&bytes).unwrap();
    assert_eq!((message.vote, message.responses.len()), (0, 0));
    assert_eq!((message.term, message.to), (3, 1));
}

/// An entry must not keep the memory of everything that came with it.
#[test]
fn entries_own_their_data() {
    let big = append(
        2,
        1,
        3,
        vec![entry(2, 4, b"small"), entry(2, 5, &[7; 100_000])],
        3,
    );
    let decoded = decode_message(&big.encode_to_vec()).unwrap();
    assert_eq!(decoded, big);
    assert!(decoded.entries[0].data.is_unique());
}

#[test]
fn lengths_beyond_the_limits_are_refused_without_memory() {
    let too_long = (MAX_MESSAGE + 1).to_be_bytes();
    assert_eq!(message_frames(&too_long, 8), Err(CodecError::TooLong));
    assert_eq!(message_frames(&[0xff; 8], 8), Err(CodecError::TooLong));
    // As long as allowed, but never sent.
    assert_eq!(message_frames(&MAX_MESSAGE.to_be_bytes(), 8), Ok(vec![]));

    let after = |kind: u8, rest: &[u8]| [&[kind][..], rest].concat();
    assert_eq!(
        msgapp_frames(&after(2, &too_long), 9),
        Err(CodecError::TooLong)
    );
    assert_eq!(
        msgapp_frames(&after(1, &[0xff; 8]), 9),
        Err(CodecError::TooLong)
    );
    let entry_too_long = after(1, &[&1_u64.to_be_bytes()[..], &[0xff; 8]].concat());
    assert_eq!(msgapp_frames(&entry_too_long, 17), Err(CodecError::TooLong));
    assert_eq!(msgapp_frames(&[3], 1), Err(CodecError::FrameType(3)));
}

#[test]
fn too_many_entries_are_refused() {
    let mut bytes = hex("0803");
    for _ in 0..=peer::codec::MAX_ENTRIES {
        bytes.extend([0x3a, 0]);
    }
    assert_eq!(decode_message(&bytes), Err(CodecError::TooLong));
}

#[test]
fn damaged_messages_are_refused() {
    for bad in [
        "08",
        "3a05",
        "0a00",
        "4209",
        "ffffffffffffffffffff01",
        "3a020a00",
    ] {
        assert_eq!(
            decode_message(&hex(bad)),
            Err(CodecError::Malformed),
            "{bad}"
        );
    }
    let frame = hex("0000000000000001 08");
    assert_eq!(message_frames(&frame, 9), Err(CodecError::Malformed));
}

fn any_entry() -> impl Strategy<Value = Entry> {
    (
        0..2_i32,
        any::<u64>(),
        any::<u64>(),
        prop::collection::vec(any::<u8>(), 0..40),
    )
        .prop_map(|(kind, term, index, data)| Entry {
            r#type: kind,
            term,
            index,
            data: data.into(),
        })
}

prop_compose! {
    fn any_message()(
        kind in 0..19_i32,
        ids in any::<(u64, u64)>(),
        numbers in any::<(u64, u64, u64, u64, u64)>(),
        entries in prop::collection::vec(any_entry(), 0..4),
        reject: bool,
        context in prop::collection::vec(any::<u8>(), 0..20),
    ) -> Message {
        let (term, log_term, index, commit, reject_hint) = numbers;
        Message {
            r#type: kind, to: ids.0, from: ids.1, term, log_term, index, commit, reject_hint, entries, reject,
            context: context.into(),
            ..Message::default()
        }
    }
}

/// A leader's messages to one follower, with the steps back and term changes that probing brings.
fn appends() -> impl Strategy<Value = Vec<Message>> {
    let step = (0..3_u64, 0..4_usize, 0..10_u64, any::<bool>());
    prop::collection::vec(step, 1..30).prop_map(|steps| {
        let (mut term, mut index) = (1, 0);
        let mut log_term = 0;
        let mut all = Vec::new();
        for (back, count, commit, new_term) in steps {
            if new_term {
                term += 1;
            }
            index = u64::saturating_sub(index, back);
            let entries: Vec<Entry> = (1..=count as u64)
                .map(|n| entry(term, index + n, b"data"))
                .collect();
            let message = append(term, log_term, index, entries, commit);
            if count > 0 {
                index += count as u64;
                log_term = term;
            }
            all.push(message);
        }
        all
    })
}

proptest! {
    #[test]
    fn messages_come_back(all in prop::collection::vec(any_message(), 1..6), size in 1..50_usize) {
        let mut stream = BytesMut::new();
        for message in &all {
            encode_message(message, &mut stream);
        }
        let want: Vec<Message> = all.into_iter()
            .filter(|message| (message.r#type, message.to, message.from) != (8, 0, 0))
            .collect();
        prop_assert_eq!(messages(message_frames(&stream, size).unwrap()), want);
    }

    #[test]
    fn msgapp_streams_come_back(all in appends(), size in 1..50_usize, beat_every in 1..5_usize) {
        let mut encoder = MsgAppEncoder::default();
        let mut stream = BytesMut::new();
        for (count, message) in all.iter().enumerate() {
            encoder.encode(message, &mut stream);
            if count % beat_every == 0 {
                MsgAppEncoder::heartbeat(&mut stream);
            }
        }
        prop_assert_eq!(messages(msgapp_frames(&stream, size).unwrap()), all);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1..50_usize) {
        let _ = decode_message(&bytes);
        let _ = message_frames(&bytes, size);
        let _ = msgapp_frames(&bytes, size);
    }

    /// Valid streams with one byte changed.
    #[test]
    fn no_damage_panics(all in appends(), at: prop::sample::Index, to: u8, size in 1..50_usize) {
        let mut encoder = MsgAppEncoder::default();
        let (mut app, mut general) = (BytesMut::new(), BytesMut::new());
        for message in &all {
            encoder.encode(message, &mut app);
            encode_message(message, &mut general);
        }
        let at_app = at.index(app.len());
        app[at_app] = to;
        let at_general = at.index(general.len());
        general[at_general] = to;
        let _ = msgapp_frames(&app, size);
        let _ = message_frames(&general, size);
    }
}
