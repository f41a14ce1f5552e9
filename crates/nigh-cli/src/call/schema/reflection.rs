//! The client side of gRPC server reflection: `grpc.reflection.v1`, or `v1alpha` where the server has only that.
//!
//! Trap: both versions have the same messages on the wire, so one set of types serves both paths. A server may answer with the
//! one file asked for or with everything it imports; what is missing is asked for by name, once, within limits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::DescriptorPool;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::error::Problem;
use super::{Caller, SchemaError};

/// Most files of one service, with all imports.
const FILES_MAX: usize = 4096;
/// Most bytes of descriptors of one service, with all imports.
const BYTES_MAX: usize = 64 << 20;

const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// One open reflection stream; questions and answers alternate.
#[derive(Debug)]
pub(super) struct Session {
    questions: mpsc::Sender<ServerReflectionRequest>,
    answers: Streaming<ServerReflectionResponse>,
}

impl Session {
    /// Opens a stream and returns it with the names of the server's services.
    pub(super) async fn open<T: Caller>(caller: T) -> Result<(Self, Vec<String>), SchemaError> {
        for path in PATHS {
            match Self::open_at(caller.clone(), path).await {
                Ok(session) => return session.listed().await,
                Err(status) if status.code() == Code::Unimplemented => {}
                Err(status) => return Err(SchemaError::Reflection(Box::new(status))),
            }
        }
        Err(SchemaError::NoReflection)
    }

    async fn open_at<T: Caller>(caller: T, path: &'static str) -> Result<Self, Status> {
        // Some servers send no headers before the first question, so it is queued before the call is made.
        let (questions, queue) = mpsc::channel(1);
        let first = question(MessageRequest::ListServices(String::new()));
        if questions.try_send(first).is_err() {
            return Err(Status::internal(
                "the first question does not fit its queue",
            ));
        }
        let mut client = Grpc::new(caller).max_decoding_message_size(BYTES_MAX);
        super::super::ready(&mut client).await?;
        let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        let request = Request::new(ReceiverStream::new(queue));
        let answers = client
            .streaming(request, PathAndQuery::from_static(path), codec)
            .await?
            .into_inner();
        Ok(Self { questions, answers })
    }

    /// Takes the answer to the first question.
    async fn listed(mut self) -> Result<(Self, Vec<String>), SchemaError> {
        match self.answer("*").await? {
            MessageResponse::ListServicesResponse(list) => {
                let names = list.service.into_iter().map(|service| service.name);
                Ok((self, names.collect()))
            }
            _ => Err(malformed("*", Problem::WrongAnswer)),
        }
    }

    /// Fetches everything that `service` needs.
    pub(super) async fn pool_for(&mut self, service: &str) -> Result<DescriptorPool, SchemaError> {
        let mut files = Files::default();
        let ask = MessageRequest::FileContainingSymbol(service.to_owned());
        files.add(service, self.ask(ask, service).await?)?;
        while let Some(name) = files.next_missing() {
            match self
                .ask(MessageRequest::FileByFilename(name.clone()), &name)
                .await
            {
                Ok(encoded) => files.add(&name, encoded)?,
                // Without the file the import may still be one that nothing needs.
                Err(SchemaError::Malformed {
                    problem: Problem::Refused { .. },
                    ..
                }) => {}
                Err(error) => return Err(error),
            }
        }
        files.into_pool()
    }

    async fn ask(&mut self, ask: MessageRequest, symbol: &str) -> Result<Vec<Bytes>, SchemaError> {
        // A closed queue means an ended stream, and that is what reading the answer reports.
        let _ = self.questions.send(question(ask)).await;
        match self.answer(symbol).await? {
            MessageResponse::FileDescriptorResponse(files) => Ok(files
                .file_descriptor_proto
                .into_iter()
                .map(Into::into)
                .collect()),
            _ => Err(malformed(symbol, Problem::WrongAnswer)),
        }
    }

    async fn answer(&mut self, symbol: &str) -> Result<MessageResponse, SchemaError> {
        let answer = self.answers.message().await;
        let answer = answer.map_err(|status| match status.code() {
            Code::Unimplemented => SchemaError::NoReflection,
            _ => SchemaError::Reflection(Box::new(status)),
        })?;
        match answer.and_then(|answer| answer.message_response) {
            Some(MessageResponse::ErrorResponse(error)) => Err(malformed(
                symbol,
                Problem::Refused {
                    code: error.error_code,
                    message: error.error_message,
                },
            )),
            Some(answer) => Ok(answer),
            None => Err(malformed(symbol, Problem::Ended)),
        }
    }
}

fn question(ask: MessageRequest) -> ServerReflectionRequest {
    ServerReflectionRequest {
        host: String::new(),
        message_request: Some(ask),
    }
}

fn malformed(symbol: &str, problem: Problem) -> SchemaError {
    SchemaError::Malformed {
        symbol: symbol.to_owned(),
        problem,
    }
}

/// Files received so far, and names that they import.
#[derive(Debug, Default)]
struct Files {
    known: BTreeMap<String, FileDescriptorProto>,
    asked: BTreeSet<String>,
    wanted: VecDeque<String>,
    bytes: usize,
}

impl Files {
    fn add<B: AsRef<[u8]>>(&mut self, symbol: &str, encoded: Vec<B>) -> Result<(), SchemaError> {
        for bytes in encoded {
            let bytes = bytes.as_ref();
            self.bytes += bytes.len();
            if self.bytes > BYTES_MAX {
                return Err(malformed(symbol, Problem::TooManyBytes(BYTES_MAX)));
            }
            let file = FileDescriptorProto::decode(bytes)
                .map_err(|_| malformed(symbol, Problem::Undecodable))?;
            self.wanted.extend(file.dependency.iter().cloned());
            self.known.insert(file.name().to_owned(), file);
            if self.known.len() + self.asked.len() > FILES_MAX {
                return Err(malformed(symbol, Problem::TooManyFiles(FILES_MAX)));
            }
        }
        Ok(())
    }

    /// A file that is imported, not here, and not asked for yet.
    fn next_missing(&mut self) -> Option<String> {
        while let Some(name) = self.wanted.pop_front() {
            if self.asked.len() == FILES_MAX {
                return None;
            }
            if !self.known.contains_key(&name) && self.asked.insert(name.clone()) {
                return Some(name);
            }
        }
        None
    }

    /// Builds the pool; imports that nobody has are dropped, and named if the types then do not resolve.
    fn into_pool(mut self) -> Result<DescriptorPool, SchemaError> {
        let missing = self.fill_from_well_known();
        for file in self.known.values_mut() {
            drop_imports(file, &missing);
        }
        let set = FileDescriptorSet {
            file: self.known.into_values().collect(),
        };
        DescriptorPool::from_file_descriptor_set(set).map_err(|source| SchemaError::Inconsistent {
            missing: missing.into_iter().collect(),
            source,
        })
    }

    /// Adds Google's well-known files where the server left them out; returns what is still missing.
    fn fill_from_well_known(&mut self) -> BTreeSet<String> {
        let well_known = DescriptorPool::global();
        let mut missing = BTreeSet::new();
        for name in std::mem::take(&mut self.asked) {
            if self.known.contains_key(&name) {
                continue;
            }
            match well_known.get_file_by_name(&name) {
                // A well-known file imports nothing but well-known files, which are few.
                Some(file) => add_with_imports(&file, &mut self.known),
                None => {
                    missing.insert(name);
                }
            }
        }
        missing
    }
}

fn add_with_imports(
    file: &prost_reflect::FileDescriptor,
    known: &mut BTreeMap<String, FileDescriptorProto>,
) {
    let mut open = vec![file.clone()];
    while let Some(file) = open.pop() {
        if !known.contains_key(file.name()) {
            open.extend(file.dependencies());
            known.insert(file.name().to_owned(), file.file_descriptor_proto().clone());
        }
    }
}

/// Removes imports; public and weak imports are indices into the list and move with it.
fn drop_imports(file: &mut FileDescriptorProto, missing: &BTreeSet<String>) {
    let mut moved = BTreeMap::new();
    let mut kept = Vec::new();
    for (old, name) in std::mem::take(&mut file.dependency).into_iter().enumerate() {
        if !missing.contains(&name) {
            moved.insert(old, kept.len());
            kept.push(name);
        }
    }
    file.dependency = kept;
    for indices in [&mut file.public_dependency, &mut file.weak_dependency] {
        *indices = indices
            .iter()
            .filter_map(|old| moved.get(&usize::try_from(*old).ok()?))
            .filter_map(|new| i32::try_from(*new).ok())
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, imports: &[&str]) -> FileDescriptorProto {
        FileDescriptorProto {
            name: Some(name.to_owned()),
            dependency: imports.iter().map(|&name| name.to_owned()).collect(),
            syntax: Some("proto3".to_owned()),
            ..Default::default()
        }
    }

    fn add(files: &mut Files, file: &FileDescriptorProto) {
        files.add("x", vec![file.encode_to_vec()]).unwrap();
    }

    #[test]
    fn each_missing_file_is_asked_for_once_even_in_a_cycle() {
        let mut files = Files::default();
        add(&mut files, &file("a", &["b", "c"]));
        assert_eq!(files.next_missing().as_deref(), Some("b"));
        add(&mut files, &file("b", &["a", "c"]));
        assert_eq!(files.next_missing().as_deref(), Some("c"));
        assert_eq!(files.next_missing(), None);
    }

    #[test]
    fn an_import_that_nobody_has_is_dropped_and_indices_follow() {
        let mut a = file("a", &["gone", "b", "google/protobuf/any.proto"]);
        a.public_dependency = vec![0, 1];
        a.weak_dependency = vec![2];
        let mut files = Files::default();
        add(&mut files, &a);
        add(&mut files, &file("b", &[]));
        while files.next_missing().is_some() {}
        let pool = files.into_pool().unwrap();
        let a = pool.get_file_by_name("a").unwrap();
        let a = a.file_descriptor_proto();
        assert_eq!(a.dependency, ["b", "google/protobuf/any.proto"]);
        assert_eq!(a.public_dependency, [0]);
        assert_eq!(a.weak_dependency, [1]);
    }

    #[test]
    fn a_type_from_a_missing_import_is_an_error_that_names_the_import() {
        let mut a = file("a", &["gone"]);
        a.message_type.push(prost_types::DescriptorProto {
            name: Some("M".to_owned()),
            field: vec![prost_types::FieldDescriptorProto {
                name: Some("f".to_owned()),
                number: Some(1),
                r#type: Some(prost_types::field_descriptor_proto::Type::Message.into()),
                type_name: Some(".gone.T".to_owned()),
                label: Some(prost_types::field_descriptor_proto::Label::Optional.into()),
                ..Default::default()
            }],
            ..Default::default()
        });
        let mut files = Files::default();
        add(&mut files, &a);
        while files.next_missing().is_some() {}
        let error = files.into_pool().unwrap_err();
        assert!(error.to_string().contains("nobody has gone"), "{error}");
    }

    #[test]
    fn what_a_server_may_send_is_bounded() {
        let mut files = Files::default();
        let imports: Vec<String> = (0..=FILES_MAX).map(|n| n.to_string()).collect();
        let imports: Vec<&str> = imports.iter().map(String::as_str).collect();
        add(&mut files, &file("a", &imports));
        let mut refused = None;
        while let Some(name) = files.next_missing() {
            if let Err(error) = files.add(&name, vec![file(&name, &[]).encode_to_vec()]) {
                refused = Some(error);
                break;
            }
        }
        assert!(
            refused
                .unwrap()
                .to_string()
                .contains("more than 4096 files")
        );
        let error = files.add("x", vec![vec![0xff]]).unwrap_err();
        assert!(error.to_string().contains("cannot be decoded"));
    }
}
