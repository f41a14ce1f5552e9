//! A file that tells an address changes hands with its listener, and so do settings where the successor asks for some.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nigh_socket::handover::{Given, Tenure};
use nigh_socket::{Address, Listener, ListenerOptions, SocketKind};
use nigh_testkit::TempSocket;

use crate::handover::{begin, control, first, options};

struct Place {
    folder: TempSocket,
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = TempSocket::private();
        let file = folder.path().with_file_name("told");
        Self { folder, file }
    }

    fn socket(&self) -> Address {
        Address::Path(self.folder.path().to_owned())
    }

    fn publishing(&self) -> ListenerOptions {
        options(SocketKind::Stream).mode(0o640).publish(&self.file)
    }

    /// What the file says, as clients read it.
    fn told(&self) -> Option<String> {
        fs::read_to_string(&self.file).ok()
    }

    fn truth(&self) -> Option<String> {
        Some(format!("{}\n", self.socket()))
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The listener goes to a successor, with these settings or as it is.
async fn succeed(
    place: &Place,
    old: &Listener,
    mut tenure: Tenure,
    wanted: Option<ListenerOptions>,
) -> (Given, Tenure, Listener) {
    let listeners = [old];
    let giving = async {
        let request = tenure.request().await.unwrap();
        let prepared = request.offer(&listeners).await.unwrap();
        prepared.give(&listeners).await.unwrap()
    };
    let taking = async {
        let mut succession = begin(&control(&place.folder)).await.unwrap();
        let new = match &wanted {
            Some(options) => succession.listen(options, place.socket()).unwrap(),
            None => succession.take_as_they_are().remove(0),
        };
        // Until the take-over everything is the old one's.
        assert_eq!(place.told(), place.truth());
        (succession.take_over(&[&new]).await.unwrap(), new)
    };
    let (given, (tenure, new)) = tokio::join!(giving, taking);
    (given, tenure, new)
}

#[tokio::test]
async fn a_file_that_tells_the_address_is_the_successors_with_the_listener() {
    let place = Place::new();
    let old = place.publishing().bind(place.socket()).unwrap();
    let tenure = first(&control(&place.folder), &[&old]).await;
    assert_eq!(place.told(), place.truth());
    let wanted = Some(place.publishing());
    let (given, successor, new) = succeed(&place, &old, tenure, wanted).await;
    assert_eq!(place.told(), place.truth());
    drop((given, old));
    assert_eq!(place.told(), place.truth(), "the old one leaves it");
    drop((successor, new));
    assert_eq!(place.told(), None, "the new one takes it away");
}

#[tokio::test]
async fn a_successor_that_tells_no_address_leaves_no_file() {
    let place = Place::new();
    let old = place.publishing().bind(place.socket()).unwrap();
    let tenure = first(&control(&place.folder), &[&old]).await;
    let wanted = Some(options(SocketKind::Stream));
    let (given, successor, new) = succeed(&place, &old, tenure, wanted).await;
    drop((given, old));
    assert_eq!(place.told(), None);
    assert_eq!(
        mode(place.folder.path()),
        0o600,
        "the default of who asks for none"
    );
    drop((successor, new));
    assert!(!place.folder.path().exists());
}

#[tokio::test]
async fn what_a_failed_successor_wrote_is_put_right() {
    let place = Place::new();
    let old = place.publishing().bind(place.socket()).unwrap();
    let tenure = first(&control(&place.folder), &[&old]).await;
    let wanted = Some(place.publishing());
    let (given, successor, new) = succeed(&place, &old, tenure, wanted).await;
    // It dies without giving anything back.
    std::mem::forget(new);
    drop(successor);
    given.take_back(&[&old]).unwrap();
    assert_eq!(place.told(), place.truth());
    drop((given, old));
    assert_eq!(place.told(), None, "it was the old one's again");
}

#[tokio::test]
async fn a_listener_that_is_only_fetched_keeps_its_settings() {
    let place = Place::new();
    let old = options(SocketKind::Stream).mode(0o666);
    let old = old.publish(&place.file).bind(place.socket()).unwrap();
    let tenure = first(&control(&place.folder), &[&old]).await;
    let (given, successor, new) = succeed(&place, &old, tenure, None).await;
    drop((given, old));
    assert_eq!(mode(place.folder.path()), 0o666);
    drop((successor, new));
}
