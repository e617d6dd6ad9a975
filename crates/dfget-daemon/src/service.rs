//! What a service manager is told (`sd_notify(3)`): that the ports answer, that the file is read again,
//! that the end has begun, and again and again that this process is alive.
//!
//! Without a service manager, which is one without `NOTIFY_SOCKET`, nothing is told.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A service manager that wants to be told oftener is told so often.
const SHORTEST: Duration = Duration::from_millis(50);

/// Says that the daemon is ready as soon as its port answers, and then goes on telling that it is alive, as often
/// as the service manager wants to hear it.
///
/// `admin` is where the port listens, `path` what is asked there. Never returns.
pub(crate) async fn tell_of_life(admin: SocketAddr, path: String, status: String) {
    let admin = SocketAddr::new(reachable(admin.ip()), admin.port());
    if !matches!(timeout(PATIENCE, answers(admin, &path)).await, Ok(Ok(()))) {
        // Anybody may fill that port: it is no reason for anything but a word.
        warn!("the admin port at {admin} does not answer");
    }
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    if let Some(limit) = sd_notify::watchdog_enabled() {
        let pause = (limit / 3).max(SHORTEST);
        info!("the service manager is told each {pause:?} that the daemon is alive");
        if let Err(error) = beat(pause, || tell(&[NotifyState::Watchdog])).await {
            warn!("whether the daemon is alive cannot be found out any more: {error}");
        }
    }
    std::future::pending().await
}

/// Calls `alive` after each pause in which the runtime has shown that it runs: a byte has gone to another task and
/// back, through the kernel, the runtime's poll of it, its clock and its threads. No other user of the machine can
/// be in the way of that byte.
///
/// # Errors
/// The system's, and there will be no more calls.
async fn beat(pause: Duration, mut alive: impl FnMut()) -> io::Result<()> {
    let (mut near, far) = UnixStream::pair()?;
    // It ends with this.
    let mut other = JoinSet::new();
    other.spawn(echo(far));
    loop {
        near.write_all(b".").await?;
        near.read_exact(&mut [0]).await?;
        alive();
        sleep(pause).await;
    }
}

async fn echo(mut stream: UnixStream) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {}
}

/// Asks the admin port something.
///
/// # Errors
/// The port cannot be reached, or ends the connection without an answer.
async fn answers(admin: SocketAddr, path: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    debug!("the admin port answers: {}", answer.escape_ascii());
    Ok(())
}

/// The configuration is about to be read again.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!("the system has no clock: {error}"),
    }
}

/// It has been read.
pub(crate) fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// The end has begun; what is under way goes on for a while.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("ending: what is under way goes on")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("the service manager (NOTIFY_SOCKET) cannot be told anything: {error}");
    }
}

/// An address by which this machine reaches what listens at `ip`.
const fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        let asked = |ip: &str| reachable(ip.parse().expect("an address")).to_string();
        assert_eq!(["0.0.0.0", "::", "10.0.0.1"].map(asked), ["127.0.0.1", "::1", "10.0.0.1"]);
    }

    #[test]
    fn a_runtime_that_hangs_is_not_alive() {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let beats = Arc::new(AtomicUsize::new(0));
        let (beaten, heard) = mpsc::channel();
        let counted = Arc::clone(&beats);
        runtime.spawn(beat(Duration::from_millis(1), move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = beaten.send(());
        }));
        heard.recv().expect("it beats");
        // All its threads wait for each other, as in a deadlock.
        let (inside, all_inside) = mpsc::channel();
        let releases = [0, 1].map(|_| {
            let (release, wait) = mpsc::channel::<()>();
            let inside = inside.clone();
            runtime.spawn(async move {
                let _ = inside.send(());
                let _ = wait.recv();
            });
            release
        });
        all_inside.recv().and_then(|()| all_inside.recv()).expect("both hang");
        let before = beats.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(100));
        assert_eq!(beats.load(Ordering::SeqCst), before);
        while heard.try_recv().is_ok() {}
        drop(releases);
        heard.recv().expect("it beats again");
        runtime.shutdown_background();
    }
}
