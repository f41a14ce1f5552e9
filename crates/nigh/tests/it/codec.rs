//! nigh's codec against stubs with tonic's own: the same bytes, any size, and bytes that are no message.

use http::uri::PathAndQuery;
use nigh_testkit::service::proto::{Payload, UploadReply};
use tonic::{Code, Request, Status};

use crate::common::Served;

async fn echo<U: prost::Message + Default + 'static>(
    served: &Served,
    length: usize,
) -> Result<U, Status> {
    let mut grpc =
        tonic::client::Grpc::new(nigh::Channel::connect(served.address()).await.unwrap());
    grpc.ready().await.unwrap();
    let data = vec![0xff; length];
    let path = PathAndQuery::from_static("/nigh.test.v1.Test/Echo");
    let codec = nigh::ProstCodec::<Payload, U>::default();
    let answer = grpc
        .unary(Request::new(Payload { data }), path, codec)
        .await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn messages_of_any_size_are_understood_by_tonics_codec() {
    let served = Served::plain();
    for length in [0, 1, 122, 123, 128, 8192, 300_000, 3 << 20] {
        let answer: Payload = echo(&served, length).await.unwrap();
        assert_eq!(answer.data, vec![0xff; length]);
    }
    served.stop().await;
}

#[tokio::test]
async fn what_is_no_message_is_an_internal_error() {
    let served = Served::plain();
    // Its first field is a number where the answer has bytes.
    let status = echo::<UploadReply>(&served, 10).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status}");
    let whole: Payload = echo(&served, 10).await.unwrap();
    assert_eq!(whole.data.len(), 10);
    served.stop().await;
}
