//! The published testbed, asked of the evaluator itself and of the daemon over its socket (gRPC, v2).

use std::path::{Path, PathBuf};
use std::process::Command;

use nigh::Channel;
use nigh_flagd::eval::Fractional;
use nigh_flagd::service::Options;
use nigh_flagd::service::proto::evaluation::v2::service_client::ServiceClient;
use nigh_flagd::service::proto::evaluation::v2::{
    ResolveBooleanRequest, ResolveFloatRequest, ResolveIntRequest, ResolveObjectRequest,
    ResolveStringRequest,
};
use nigh_flagd::value::{json_number, to_members, to_struct};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tonic::{Code, Request, Status};

use crate::common::{Daemon, source, tell};
use crate::gherkin::{self, Backend, Details, Question};

/// The testbed inside the published provider's package, fetched if need be and possible.
pub(crate) fn testbed() -> Option<PathBuf> {
    located(&["--offline"]).or_else(|| located(&[]))
}

fn located(how: &[&str]) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        .args(how)
        .arg("--manifest-path")
        .arg(root.join("interop/flagd/rust/Cargo.toml"))
        .output()
        .ok()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).ok()?;
    let packages = metadata["packages"].as_array()?.iter();
    let manifest = packages
        .filter(|package| package["name"] == "open-feature-flagd")
        .find_map(|package| package["manifest_path"].as_str())?;
    Some(Path::new(manifest).parent()?.join("flagd-testbed"))
}

fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

fn features(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
    names
        .iter()
        .map(|name| folder.join(format!("{name}.feature")))
        .collect()
}

/// Asks over the socket.
struct OverSocket {
    runtime: tokio::runtime::Runtime,
    client: ServiceClient<Channel>,
    directory: PathBuf,
}

macro_rules! ask {
    ($self:ident, $question:ident, $method:ident, $request:ident, $json:expr) => {{
        let mut request = Request::new($request {
            flag_key: $question.key.clone(),
            context: Some(to_struct(&$question.context)),
        });
        if !$question.selector.is_empty() {
            let selector = $self.directory.join(&$question.selector);
            let selector = selector.to_str().unwrap().parse().unwrap();
            request.metadata_mut().insert("flagd-selector", selector);
        }
        let answer = $self.runtime.block_on($self.client.$method(request));
        answer.map(|answer| {
            let answer = answer.into_inner();
            let metadata = answer.metadata.as_ref().map(to_members);
            Details {
                value: answer.value.map($json),
                reason: answer.reason,
                variant: answer.variant.unwrap_or_default(),
                error_code: String::new(),
                metadata: metadata.unwrap_or_default(),
            }
        })
    }};
}

fn failed(status: &Status) -> Details {
    let code = match status.code() {
        Code::NotFound => "FLAG_NOT_FOUND",
        Code::InvalidArgument => "TYPE_MISMATCH",
        Code::DataLoss => "PARSE_ERROR",
        _ => "GENERAL",
    };
    Details {
        reason: "ERROR".into(),
        error_code: code.into(),
        ..Details::default()
    }
}

impl Backend for OverSocket {
    fn evaluate(&mut self, question: &Question) -> Details {
        let answer = match question.kind.as_str() {
            "Boolean" => ask!(
                self,
                question,
                resolve_boolean,
                ResolveBooleanRequest,
                Value::from
            ),
            "String" => ask!(
                self,
                question,
                resolve_string,
                ResolveStringRequest,
                Value::from
            ),
            "Integer" => ask!(self, question, resolve_int, ResolveIntRequest, Value::from),
            "Float" => ask!(
                self,
                question,
                resolve_float,
                ResolveFloatRequest,
                json_number
            ),
            "Object" => ask!(
                self,
                question,
                resolve_object,
                ResolveObjectRequest,
                |value| { Value::Object(to_members(&value)) }
            ),
            other => panic!("{other}"),
        };
        answer.unwrap_or_else(|status| failed(&status))
    }
}

/// The testbed's flags in one document, as its launchpad puts them together.
pub(crate) fn merged_flags(bed: &Path) -> Map<String, Value> {
    let mut all = Map::new();
    for path in flag_files(bed).filter(|path| !is_selected(path)) {
        let text = std::fs::read_to_string(&path).unwrap();
        merge(&mut all, serde_json::from_str(&text).unwrap());
    }
    all
}

fn flag_files(bed: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(bed.join("flags")).unwrap();
    entries.map(|entry| entry.unwrap().path())
}

/// Whether it is a source of its own, to be selected.
fn is_selected(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with("selector-")
}

/// The daemon with the testbed's flags.
fn over_socket(bed: &Path, fractional: Fractional, kit: bool) -> (OverSocket, Daemon, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("rawflags");
    std::fs::create_dir_all(&raw).unwrap();
    std::fs::create_dir_all(directory.path().join("flags")).unwrap();
    for path in flag_files(bed).filter(|path| is_selected(path)) {
        std::fs::copy(&path, raw.join(path.file_name().unwrap())).unwrap();
    }
    let merged = directory.path().join("flags/allFlags.json");
    std::fs::write(&merged, Value::Object(merged_flags(bed)).to_string()).unwrap();
    let sources = match kit {
        true => vec![source(&bed.join("evaluator/flags/testkit-flags.json"))],
        false => vec![
            source(&raw.join("selector-flag-combined-metadata.json")),
            source(&merged),
            source(&raw.join("selector-flags.json")),
        ],
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut options = Options::default();
    options.context = vec![("injectedmetadata".into(), "set".into())];
    let (daemon, client) = runtime.block_on(async {
        let daemon = Daemon::start(&sources, fractional, options).await;
        let client = ServiceClient::new(daemon.channel().await);
        (daemon, client)
    });
    let backend = OverSocket {
        runtime,
        client,
        directory: directory.path().to_owned(),
    };
    (backend, daemon, directory)
}

/// What only v1 of the protocol does; the published Rust provider shows it under interop/flagd.
const V1_ONLY: [&str; 1] = ["@deprecated"];

fn run(view: &str, fractional: Fractional) {
    let Some(bed) = testbed() else {
        nigh_testkit::skip("cargo cannot fetch interop/flagd/rust");
        return;
    };
    let rpc = [
        "targeting",
        "evaluation",
        "disabled",
        "metadata",
        "contextEnrichment",
        "selector",
    ];
    let kit = [
        "disabled",
        "string",
        "targeting",
        "no-default-variant",
        "evaluator-refs",
        "errors",
        "evaluation",
        "semver",
        "metadata",
        "zero-values",
        "fractional",
    ];
    let suites = [
        ("rpc", features(&bed.join("gherkin"), &rpc), false),
        (
            "evaluator",
            features(&bed.join("evaluator/gherkin"), &kit),
            true,
        ),
    ];
    for (name, files, kit) in suites {
        let (mut backend, _daemon, _directory) = over_socket(&bed, fractional, kit);
        let (mut passed, mut failures) = (0, Vec::new());
        for case in files.iter().flat_map(|file| gherkin::read(file)) {
            if !gherkin::belongs(&case, view, &V1_ONLY) {
                continue;
            }
            match gherkin::run(&case, &mut backend) {
                Ok(()) => passed += 1,
                Err(error) => failures.push(format!("{}: {error}", case.name)),
            }
        }
        let failed = failures.len();
        tell(&format!(
            "testbed {name} {view}: {passed} passed, {failed} failed"
        ));
        assert!(failures.is_empty(), "{failures:#?}");
        assert!(passed > 50, "{passed}");
    }
}

#[test]
fn the_testbed_passes_with_fractional_v2() {
    run("v2", Fractional::V2);
}

#[test]
fn the_testbed_passes_with_fractional_v3() {
    run("v3", Fractional::V3);
}
