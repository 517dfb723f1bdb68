//! What goes into a batch comes out of its views, without copies, and nothing that a faulty plugin puts in reads outside.

use bytes::Bytes;
use tracemq_plugin_api::prelude::*;

fn texts(batch: &Batch) -> Vec<String> {
    batch.iter().map(|message| String::from_utf8_lossy(message.payload()).into_owned()).collect()
}

#[test]
fn every_kind_of_part_reads_back() {
    let read = Bytes::from_static(b"topic/apayload-a");
    let mut builder = BatchBuilder::with_capacity(3);
    let buffer = builder.buffer(read);
    builder.add(Part::In(buffer, 0..7), Part::In(buffer, 7..16));
    builder.add("topic/b", Bytes::from_static(b"payload-b"));
    builder.add(&String::from("topic/c"), &b"payload-c"[..]);
    let batch = builder.finish();
    let topics: Vec<_> = batch.iter().map(|message| message.topic_text().into_owned()).collect();
    assert_eq!(topics, ["topic/a", "topic/b", "topic/c"]);
    assert_eq!(texts(&batch), ["payload-a", "payload-b", "payload-c"]);
    assert_eq!((batch.len(), batch.is_empty(), batch.is_end(), batch.dropped()), (3, false, false, 0));
}

#[test]
fn buffers_are_shared_and_not_copied() {
    let read = Bytes::from(vec![7; 1000]);
    let address = read.as_ptr();
    let mut builder = BatchBuilder::new();
    let buffer = builder.buffer(read);
    builder.add("t", Part::In(buffer, 10..20));
    let batch = builder.finish();
    let message = batch.get(0).unwrap();
    assert_eq!(message.payload().as_ptr(), address.wrapping_add(10));
    let kept = message.payload_bytes();
    drop(batch);
    assert_eq!((kept.as_ptr(), &kept[..]), (address.wrapping_add(10), &[7; 10][..]));
}

#[test]
fn adopting_keeps_what_the_messages_say() {
    let mut builder = BatchBuilder::new();
    let buffer = builder.buffer(Bytes::from_static(b"shared"));
    builder.add("t", Part::In(buffer, 1..3));
    builder.add("u", Bytes::from_static(b"own"));
    let mut batch = builder.finish();
    batch.adopt();
    assert_eq!(texts(&batch), ["ha", "own"]);
}

#[test]
fn headers_reply_time_and_metadata_belong_to_their_message() {
    let values = [
        ("bool", MetaValue::Bool(true)),
        ("int", MetaValue::Int(i64::MIN)),
        ("uint", MetaValue::Uint(u64::MAX)),
        ("float", MetaValue::Float(-0.5)),
        ("text", MetaValue::Text("é")),
        ("bytes", MetaValue::Bytes(&[0xff, 0])),
        ("json", MetaValue::Json("[1]")),
    ];
    let mut builder = BatchBuilder::new();
    let record = builder.add("a", "1").reply("answers/here").time(5).header("k", "v").header("k", "w");
    values.into_iter().fold(record, |record, (name, value)| record.meta(name, value));
    builder.add("b", "2").header("only", "mine");
    let shared = builder.meta_range(&[("qos", MetaValue::Uint(1)), ("retain", MetaValue::Bool(false))]);
    builder.add("c", "3").shared_meta(shared);
    builder.add("d", "4").shared_meta(shared);
    let batch = builder.finish();

    let first = batch.get(0).unwrap();
    assert_eq!((first.reply(), first.time()), (Some(&b"answers/here"[..]), 5));
    assert_eq!(first.headers().collect::<Vec<_>>(), [(&b"k"[..], &b"v"[..]), (b"k", b"w")]);
    assert_eq!(first.meta().collect::<Vec<_>>(), values);
    let second = batch.get(1).unwrap();
    assert_eq!(second.headers().collect::<Vec<_>>(), [(&b"only"[..], &b"mine"[..])]);
    assert_eq!((second.reply(), second.meta().count()), (None, 0));
    for index in [2, 3] {
        let meta: Vec<_> = batch.get(index).unwrap().meta().collect();
        assert_eq!(meta, [("qos", MetaValue::Uint(1)), ("retain", MetaValue::Bool(false))]);
    }
    assert!(batch.get(4).is_none());
}

#[test]
fn an_empty_reply_is_not_an_absent_one() {
    let mut builder = BatchBuilder::new();
    builder.add("a", "").reply("");
    builder.add("", "");
    let batch = builder.finish();
    assert_eq!(batch.get(0).unwrap().reply(), Some(&b""[..]));
    assert_eq!(batch.get(1).unwrap().reply(), None);
    assert_eq!(batch.get(1).unwrap().topic(), b"");
}

#[test]
fn ranges_outside_of_a_buffer_read_as_empty() {
    let mut other = BatchBuilder::new();
    other.buffer(Bytes::new());
    let unknown = other.buffer(Bytes::new());
    let mut builder = BatchBuilder::new();
    let buffer = builder.buffer(Bytes::from_static(b"short"));
    builder
        .add(Part::In(buffer, 3..900), Part::In(buffer, 4_000_000_000..4_000_000_001))
        .reply(Part::In(buffer, 6..7))
        .header(Part::In(buffer, 5..6), Part::In(buffer, 0..u32::MAX as usize));
    builder.add(Part::In(buffer, 5..5), Part::In(buffer, 0..5));
    let batch = builder.finish();
    let message = batch.get(0).unwrap();
    assert_eq!((message.topic(), message.payload(), message.reply()), (&b""[..], &b""[..], Some(&b""[..])));
    assert_eq!(message.payload_bytes(), Bytes::new());
    assert_eq!(message.headers().collect::<Vec<_>>(), [(&b""[..], &b""[..])]);
    assert_eq!(batch.get(1).unwrap().payload(), b"short");

    // A buffer of another builder, of which this batch has none.
    let mut builder = BatchBuilder::new();
    builder.add(Part::In(unknown, 0..1), "1");
    let batch = builder.finish();
    assert_eq!((batch.get(0).unwrap().topic(), batch.get(0).unwrap().payload()), (&b""[..], &b"1"[..]));
}

#[test]
fn metadata_that_is_not_text_reads_as_empty_text() {
    let mut builder = BatchBuilder::new();
    let buffer = builder.buffer(Bytes::from_static(&[0xc3, 0x28]));
    builder.add(Part::In(buffer, 0..2), "x");
    let batch = builder.finish();
    assert_eq!(batch.get(0).unwrap().topic_text(), "\u{fffd}(");
}

#[test]
fn a_batch_is_split_and_filtered_without_losing_what_it_carries() {
    let mut builder = BatchBuilder::new();
    for number in 0..5 {
        builder.add("t", &number.to_string()).header("n", &number.to_string());
    }
    builder.set_dropped(9);
    let mut rest = builder.finish();
    let head = rest.split_to(2);
    assert_eq!((texts(&head), head.dropped()), (vec!["0".into(), "1".into()], 9));
    assert_eq!((texts(&rest), rest.dropped()), (vec!["2".into(), "3".into(), "4".into()], 0));
    assert_eq!(rest.get(0).unwrap().headers().next(), Some((&b"n"[..], &b"2"[..])));
    let odd = rest.filter(|message| message.payload() != b"3");
    assert_eq!(texts(&odd), ["2", "4"]);
    assert_eq!(odd.get(1).unwrap().headers().next(), Some((&b"n"[..], &b"4"[..])));
    assert_eq!(rest.split_to(100).len(), 3);
    assert!(rest.is_empty());
}

#[test]
fn only_the_last_part_of_an_end_is_the_end() {
    let mut end = Batch::end();
    assert!(end.is_end() && end.is_empty());
    assert!(!end.split_to(1).is_end());
    assert!(end.is_end());
}

#[test]
fn what_was_lost_is_told_by_the_batch_after_it() {
    let mut builder = BatchBuilder::new();
    builder.set_dropped(3);
    let batch = builder.finish();
    assert_eq!((batch.dropped(), batch.len()), (3, 0));
}
