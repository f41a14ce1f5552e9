//! A child with a private line, and its death noticed at once: `cargo run -p nigh-socket --example child_line`.
//!
//! The program starts itself: the child finds its line by [`from_parent`], and inherits nothing else.

use std::error::Error;
use std::io::IoSlice;

use nigh_socket::Received;
use nigh_socket::spawn::{Spawn, from_parent};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("child") => child().await,
        _ => parent().await,
    }
}

async fn child() -> Result<(), Box<dyn Error>> {
    let line = from_parent()?.into_seqpacket()?;
    let mut buffer = [0; 4096];
    while let Received::Packet(packet) = line.recv(&mut buffer).await? {
        let answer = format!("{} bytes", packet.length);
        line.send(&[IoSlice::new(answer.as_bytes())], &[]).await?;
    }
    Ok(())
}

async fn parent() -> Result<(), Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let (child, line) = Spawn::new(program).arg("child").spawn()?;
    let line = line.into_seqpacket()?;
    let mut buffer = [0; 4096];
    for question in ["one", "three"] {
        line.send(&[IoSlice::new(question.as_bytes())], &[]).await?;
        let answer = line
            .recv(&mut buffer)
            .await?
            .into_packet()
            .ok_or("it left")?;
        let answer = String::from_utf8_lossy(&buffer[..answer.length]).into_owned();
        println!("{question:?}: child {} says {answer}", child.pid());
    }
    child.kill()?;
    // Nobody else holds the child's end, so the line ends with the child.
    let end = line.recv(&mut buffer).await?;
    println!(
        "line ended: {}; child: {}",
        end.is_end(),
        child.exited().await?
    );
    Ok(())
}
