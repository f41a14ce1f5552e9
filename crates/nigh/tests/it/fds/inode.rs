//! grpcfd's way between two nigh ends: by URL, before or after, again and again; and only where it is switched on.

use std::time::Duration;

use nigh::{DescriptorsExt as _, FdLimits, Incapable, InodeUrl, TakeError};
use nigh_testkit::service::proto::Payload;
use tonic::{Code, Request};

use super::service::{connect, message, named, roomy, serve};

#[tokio::test]
async fn a_table_is_opt_in_on_both_sides() {
    let (served, mirror) = serve(roomy(), |server| server);
    let mut without = connect(&served, FdLimits::default()).await;
    let mut request = Request::new(Payload::default());
    let url = request.descriptors().attach_inode(named("x")).unwrap();
    let status = without.hold(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(
        status.message().contains(&Incapable::NoTable.to_string()),
        "{status}"
    );
    assert_eq!(mirror.holding.available_permits(), 0, "nothing was sent");
    let mut reply = without.echo(message(&[], 0)).await.unwrap();
    let claimed = reply.descriptors().claim(url, Duration::ZERO).await;
    assert_eq!(claimed.unwrap_err(), TakeError::NoTable);
    served.stop().await;
}

#[tokio::test]
async fn what_does_not_come_is_missed_in_time_and_a_missing_file_at_once() {
    let (served, _) = serve(FdLimits::with_inode_table(), |server| server);
    let mut client = connect(&served, FdLimits::with_inode_table()).await;
    let mut request = Request::new(message(&[], 0));
    let missing = request
        .descriptors()
        .attach_path("/no/such/file")
        .unwrap_err();
    assert_eq!(tonic::Status::from(missing).code(), Code::NotFound);
    let mut reply = client.echo(request).await.unwrap();
    let url = InodeUrl {
        device: 1,
        inode: 2,
    };
    let claimed = reply
        .descriptors()
        .claim(url, Duration::from_millis(20))
        .await;
    assert_eq!(claimed.unwrap_err(), TakeError::TimedOut { url });
    served.stop().await;
}
