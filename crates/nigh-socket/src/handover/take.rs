//! The successor's side: ask who serves, get its listeners, and take over when everything is prepared.
//!
//! Nothing is changed for clients before [`Succession::take_over`], and nothing of the predecessor's is removed when
//! this process ends before that.

use std::sync::Arc;
use std::time::Duration;

use super::error::{HandoverError, Step};
use super::leash::{Leash, Other, unexpected};
use super::message::{Message, VERSION};
use super::options::HandoverOptions;
use super::predecessor::Predecessor;
use super::tenure::Tenure;
use crate::address::Address;
use crate::connect::{Cause, ConnectError, ConnectFault, ConnectOptions, connect_packet};
use crate::listener::{BindError, BindFault, Existing, Listener, ListenerOptions, SocketKind};
use crate::peer::Peer;

/// How often a control socket is looked at that is neither served nor free: somebody is just coming or going.
const LOOKS_MAX: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// A process on its way into office: with the predecessor's listeners, if there is one, or as the first.
#[derive(Debug)]
pub struct Succession {
    address: Address,
    options: HandoverOptions,
    control: Option<Listener>,
    predecessor: Option<Leash>,
    inherited: Vec<Listener>,
}

impl Succession {
    /// Asks whoever listens at `control`, a path, for its listeners; where nobody does, this process is the first.
    ///
    /// # Errors
    /// See [`HandoverError`]. Whoever serves, serves on.
    pub async fn begin<A>(control: A, options: HandoverOptions) -> Result<Self, HandoverError>
    where
        A: TryInto<Address>,
        BindError: From<A::Error>,
    {
        let address = control
            .try_into()
            .map_err(|error| HandoverError::Control(error.into()))?;
        let mut looks = 1;
        loop {
            let mut this = Self::nobody_yet(address.clone(), options.clone())?;
            let failure = match this.look().await {
                Ok(()) => return Ok(this),
                Err(failure) => failure,
            };
            let passing = match &failure {
                HandoverError::Left(Step::Hello) => true,
                HandoverError::Control(error) => matches!(error.fault(), BindFault::InUse),
                _ => false,
            };
            if !passing || looks == LOOKS_MAX {
                return Err(failure);
            }
            looks += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// As [`begin`](Self::begin), where it is an error when nobody serves.
    ///
    /// # Errors
    /// See [`HandoverError`].
    pub async fn ask(control: Address, options: HandoverOptions) -> Result<Self, HandoverError> {
        let mut this = Self::nobody_yet(control, options)?;
        this.connect().await?;
        Ok(this)
    }

    /// The first in office, where it is an error when somebody serves already.
    ///
    /// # Errors
    /// See [`HandoverError`].
    pub fn first(control: Address, options: HandoverOptions) -> Result<Self, HandoverError> {
        let mut this = Self::nobody_yet(control, options)?;
        this.control = Some(bind(&this.address)?);
        Ok(this)
    }

    /// Who serves until this process takes over; `None` for the first.
    #[must_use]
    pub fn predecessor(&self) -> Option<&Peer> {
        self.predecessor.as_ref().map(Leash::peer)
    }

    /// The listeners that came and were not asked for yet, the control socket aside. They are the predecessor's still.
    #[must_use]
    pub fn inherited(&self) -> &[Listener] {
        &self.inherited
    }

    /// All listeners that came and were not asked for yet, with the settings of `options` for each.
    pub fn take_all(&mut self, options: &ListenerOptions) -> Vec<Listener> {
        let inherited = std::mem::take(&mut self.inherited);
        let inherited = inherited.into_iter();
        inherited
            .map(|listener| {
                let options = options.clone().kind(listener.kind());
                listener.configured(&options)
            })
            .collect()
    }

    /// All listeners that came and were not asked for yet, which keep the settings that they have.
    pub fn take_as_they_are(&mut self) -> Vec<Listener> {
        std::mem::take(&mut self.inherited)
    }

    /// The listener that the predecessor has of this name (or kind and address, where `options` name none), or one that
    /// is bound now. Its permissions and other settings become those of `options` when it is taken over.
    ///
    /// # Errors
    /// As [`ListenerOptions::bind`].
    pub fn listen<A>(
        &mut self,
        options: &ListenerOptions,
        address: A,
    ) -> Result<Listener, BindError>
    where
        A: TryInto<Address>,
        BindError: From<A::Error>,
    {
        let address = address.try_into()?;
        let mut inherited = self.inherited.iter();
        match inherited.position(|listener| options.finds(listener, &address)) {
            Some(at) => Ok(self.inherited.remove(at).configured(options)),
            None => options.bind::<Address>(address),
        }
    }

    /// Takes over: the predecessor stops accepting, `listeners` become this process's own, and it is told so.
    ///
    /// What was inherited and is not among `listeners` is closed by the predecessor at its end. When the predecessor has
    /// died meanwhile, this goes on without it.
    ///
    /// # Errors
    /// See [`HandoverError`]; the predecessor serves on then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the predecessor serving.
    pub async fn take_over(mut self, listeners: &[&Listener]) -> Result<Tenure, HandoverError> {
        let control = match self.control.take() {
            Some(control) => control,
            None => bind(&self.address)?,
        };
        let all = || listeners.iter().copied().chain([&control]);
        let handed = all().filter_map(Listener::handed_index);
        let taken = handed.fold(0, |taken, index| taken | 1_u64.wrapping_shl(index.into()));
        if let Some(leash) = &mut self.predecessor
            && !may_go(leash, taken, &self.options).await?
        {
            self.predecessor = None;
        }
        for listener in all() {
            listener.take_over().map_err(|source| {
                let error = HandoverError::SetUp {
                    address: listener.address().clone(),
                    source,
                };
                if let Some(leash) = &self.predecessor {
                    leash.refuse(error.reason(), &error.to_string());
                }
                error
            })?;
        }
        if let Some(leash) = &self.predecessor {
            match leash.send(Step::Go, &Message::Serving, None).await {
                Ok(()) => {}
                Err(HandoverError::Left(_)) if leash.is_dead()? => self.predecessor = None,
                Err(error) => return Err(error),
            }
        }
        for listener in all() {
            listener.own_name();
        }
        let predecessor = self.predecessor.map(Predecessor::new);
        Tenure::new(Arc::new(control), predecessor, self.options)
    }

    /// Where a server that listens at `addresses` is asked, by convention: at its first socket file's path with `.handover`
    /// behind it. `None` without a socket file: the address is then to be said.
    pub fn beside<'a>(addresses: impl IntoIterator<Item = &'a Address>) -> Option<Address> {
        addresses.into_iter().find_map(|address| match address {
            Address::Path(path) => {
                let mut path = path.clone().into_os_string();
                path.push(".handover");
                Some(Address::Path(path.into()))
            }
            _ => None,
        })
    }

    fn nobody_yet(address: Address, options: HandoverOptions) -> Result<Self, HandoverError> {
        if !matches!(address, Address::Path(_)) {
            return Err(HandoverError::NotAPath(address));
        }
        Ok(Self {
            address,
            options,
            control: None,
            predecessor: None,
            inherited: Vec::new(),
        })
    }

    async fn look(&mut self) -> Result<(), HandoverError> {
        match self.connect().await {
            Err(HandoverError::Connect(error)) if is_nobody(&error) => {
                self.control = Some(bind(&self.address)?);
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn connect(&mut self) -> Result<(), HandoverError> {
        let connect = ConnectOptions::default().wait(false);
        match connect_packet(&self.address, &connect).await {
            Ok((socket, peer)) => {
                let mut leash = Leash::new(socket, peer, &self.options, Other::Predecessor)?;
                match self.receive(&mut leash).await {
                    Ok(()) => self.predecessor = Some(leash),
                    // It died: what came is all there is, and it is ours.
                    Err(HandoverError::Left(_))
                        if !self.inherited.is_empty() && leash.is_dead()? => {}
                    Err(error) => {
                        leash.refuse(error.reason(), &error.to_string());
                        return Err(error);
                    }
                }
            }
            Err(error) => return Err(HandoverError::Connect(error)),
        }
        Ok(())
    }

    async fn receive(&mut self, leash: &mut Leash) -> Result<(), HandoverError> {
        let hello = Message::Hello { version: VERSION };
        leash.send(Step::Hello, &hello, None).await?;
        // Another successor may be ahead in the queue.
        let patience = self.options.ready_time + self.options.step_time * 2;
        let count = match leash.receive(Step::Hello, patience).await? {
            (Message::Offer { listeners }, _) => listeners,
            (message, _) => return Err(unexpected(Step::Hello, &message, 0)),
        };
        for expected in 0..count {
            let step = Step::Offer;
            let received = leash.receive(step, self.options.step_time).await?;
            let (index, claim, fd) = match received {
                (Message::Listener { index, claim }, Some(fd)) if index == expected => {
                    (index, claim, fd)
                }
                (message, fd) => return Err(unexpected(step, &message, fd.into_iter().count())),
            };
            let listener = Listener::handed(fd, &claim, index).map_err(|source| {
                let address = claim.address.clone();
                HandoverError::Listener { address, source }
            })?;
            match claim.is_control {
                true => {
                    let options = control_options();
                    self.control = Some(listener.configured(&options));
                }
                false => self.inherited.push(listener),
            }
            leash.send(step, &Message::Received { index }, None).await?;
        }
        Ok(())
    }
}

/// Whether the predecessor has stopped accepting; false when it is dead.
async fn may_go(
    leash: &mut Leash,
    taken: u64,
    options: &HandoverOptions,
) -> Result<bool, HandoverError> {
    let said = async {
        leash
            .send(Step::Ready, &Message::Ready { taken }, None)
            .await?;
        leash.receive(Step::Go, options.step_time).await
    };
    match said.await {
        Ok((Message::Go, _)) => Ok(true),
        Ok((message, _)) => Err(unexpected(Step::Go, &message, 0)),
        Err(HandoverError::Left(_)) if leash.is_dead()? => Ok(false),
        Err(error) => Err(error),
    }
}

/// The control socket: closed to other users, whatever else is said.
pub(super) fn control_options() -> ListenerOptions {
    Listener::options()
        .kind(SocketKind::Seqpacket)
        .mode(0o600)
        .existing(Existing::ReplaceStale)
}

fn bind(address: &Address) -> Result<Listener, HandoverError> {
    control_options()
        .bind(address.clone())
        .map_err(HandoverError::Control)
}

/// Nobody serves there: nothing is there, or a dead server's socket.
fn is_nobody(error: &ConnectError) -> bool {
    matches!(
        error.fault(),
        ConnectFault::Unavailable {
            cause: Cause::Missing | Cause::Refused,
            ..
        }
    )
}
