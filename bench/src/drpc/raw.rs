//! Packets without a protocol: the floor. A call larger than a packet is several, all received before any is answered.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    bind, listen, recv, send, socket_with,
};

use super::Scenario;
use super::callers::{Clock, Times};
use crate::Failure;

/// The size of dRPC's largest packet.
pub(super) const PACKET_BYTES: usize = 128 * 1024;

fn socket() -> Result<OwnedFd, Errno> {
    let kind = SocketType::SEQPACKET;
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

/// A connected packet socket, blocking.
pub(super) fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = socket()?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Answers each call with the same bytes. The first packet of a connection says how many packets a call has.
pub(super) fn serve(path: &Path) -> Result<(), Failure> {
    let listener = socket()?;
    bind(&listener, &SocketAddrUnix::new(path)?)?;
    listen(&listener, 16)?;
    loop {
        let caller = accept_with(&listener, SocketFlags::CLOEXEC)?;
        // A caller that leaves ends its connection only.
        let _ = answer(&caller);
    }
}

fn answer(caller: &OwnedFd) -> Result<(), Errno> {
    let mut count = [0_u8; 1];
    if recv(caller, &mut count[..], RecvFlags::empty())?.1 == 0 {
        return Ok(());
    }
    let mut buffers = vec![vec![0; PACKET_BYTES]; usize::from(count[0])];
    let mut lengths = vec![0; buffers.len()];
    loop {
        for (buffer, length) in buffers.iter_mut().zip(&mut lengths) {
            (_, *length) = recv(caller, &mut buffer[..], RecvFlags::empty())?;
            if *length == 0 {
                return Ok(());
            }
        }
        for (buffer, length) in buffers.iter().zip(&lengths) {
            let packet = buffer.get(..*length).unwrap_or_default();
            send(caller, packet, SendFlags::NOSIGNAL)?;
        }
    }
}

/// Calls for `time`.
pub(super) fn run(path: &Path, scenario: Scenario, time: Duration) -> Result<Times, Failure> {
    let socket = connect(path)?;
    let packets = scenario.bytes.div_ceil(PACKET_BYTES);
    send(&socket, &[u8::try_from(packets)?], SendFlags::NOSIGNAL)?;
    let message = vec![7; scenario.bytes.min(PACKET_BYTES)];
    let mut clock = Clock::start(time);
    let mut buffer = vec![0; PACKET_BYTES];
    if scenario.in_flight == 1 {
        while clock.next() {
            for _ in 0..packets {
                send(&socket, &message, SendFlags::NOSIGNAL)?;
            }
            for _ in 0..packets {
                recv(&socket, &mut buffer[..], RecvFlags::empty())?;
            }
            clock.done();
        }
        return Ok(clock.times());
    }
    window(
        &socket,
        scenario.in_flight,
        &message,
        &mut buffer,
        &mut clock,
    )?;
    Ok(clock.times())
}

/// Keeps so many packets on their way. Neither side waits for the other while there is anything to do.
fn window(
    socket: &OwnedFd,
    in_flight: usize,
    message: &[u8],
    buffer: &mut [u8],
    clock: &mut Clock,
) -> Result<(), Failure> {
    let mut waiting = 0;
    while clock.next() || waiting > 0 {
        let mut wanted = PollFlags::IN;
        while waiting < in_flight && clock.runs() {
            match send(socket, message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(_) => waiting += 1,
                Err(Errno::AGAIN) => {
                    wanted |= PollFlags::OUT;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut polled = [PollFd::new(socket, wanted)];
        poll(&mut polled, None)?;
        loop {
            match recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok(_) => waiting -= 1,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
            clock.done();
        }
    }
    Ok(())
}
