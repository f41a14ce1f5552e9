//! The scripted stream does each step once, in order.

use std::io::ErrorKind;

use nigh_testkit::scripted::{Scripted, Step, WriteStep};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn reads_follow_the_script() {
    let mut stream = Scripted::new([
        Step::Short(2),
        Step::Data(b"hello".to_vec()),
        Step::Pending,
        Step::Error(ErrorKind::ConnectionReset),
        Step::Eof,
    ]);
    let mut buf = [0; 8];
    assert_eq!(stream.read(&mut buf).await.unwrap(), 2);
    assert_eq!(stream.read(&mut buf).await.unwrap(), 3);
    assert_eq!(&buf[..3], b"llo");
    let error = stream.read(&mut buf).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(stream.read(&mut buf).await.unwrap(), 0);
    assert_eq!(stream.read(&mut buf).await.unwrap(), 0);
}

#[tokio::test]
async fn a_script_that_ran_out_waits_for_more() {
    let mut stream = Scripted::new([]);
    let script = stream.script();
    let mut buf = [0; 8];
    let (read, ()) = tokio::join!(stream.read(&mut buf), async {
        script.push(Step::Data(b"x".to_vec()));
    });
    assert_eq!(read.unwrap(), 1);
}

#[tokio::test]
async fn bytes_can_come_one_by_one() {
    let mut all = Vec::new();
    let mut stream = Scripted::byte_by_byte(b"split");
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"split");
}

#[tokio::test]
async fn writes_follow_script_and_capacity() {
    let mut stream = Scripted::new([])
        .writes([
            WriteStep::Pending,
            WriteStep::Short(1),
            WriteStep::Error(ErrorKind::BrokenPipe),
        ])
        .write_capacity(3);
    let script = stream.script();
    assert_eq!(stream.write(b"abc").await.unwrap(), 1);
    assert_eq!(
        stream.write(b"bc").await.unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    assert_eq!(stream.write(b"bcd").await.unwrap(), 2);
    let (rest, ()) = tokio::join!(stream.write_all(b"def"), async { script.grant(3) });
    rest.unwrap();
    assert_eq!(script.written(), b"abcdef");
    assert!(!script.is_shut_down());
    stream.shutdown().await.unwrap();
    assert!(script.is_shut_down());
}
