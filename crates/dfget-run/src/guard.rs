//! Watches over a lease while the command runs, on a thread of its own.
//!
//! When the daemon dies, connections to the command's proxy are taken here and tunnelled, so that
//! what has not begun yet can still go directly, until another daemon has been found.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use dfget_lease::{FromDaemon, Inbox, Spared, ToDaemon};
use dfget_origin::{Destinations, OriginClient, OriginOptions, PerScheme, Retries, Trust, Upstream};
use dfget_proxy::{AccessOptions, Admission, Entrance, Proxy, ProxyLogin, ProxyOptions, Realms};
use dfget_task::{SplitOptions, TaskOptions, Tasks};
use dfget_telemetry::{BuildInfo, Metrics};
use dfget_tls::{OriginTrust, Roots};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::acquire::{Lease, Seeker};
use crate::bundle::Bundles;

/// How long the daemon may take to say what was spared.
const SPARED_PATIENCE: Duration = Duration::from_secs(2);

/// Pauses before another daemon is looked for; the last goes on.
const PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];

/// How often the bundles are looked after.
const REFRESH: Duration = Duration::from_secs(5);

/// The end of it that the main thread holds.
#[derive(Debug)]
pub(crate) struct Guard {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

/// What a guard works with.
#[derive(Debug)]
pub(crate) struct Post {
    /// The listening socket of the command's proxy.
    pub(crate) listener: TcpListener,
    /// How to find another daemon.
    pub(crate) seeker: Seeker,
    /// What the command's programs trust.
    pub(crate) bundles: Bundles,
    /// Hears what happens; for `--verbose`.
    pub(crate) say: fn(&str),
    /// Whether connections are tunnelled while there is no daemon; else they are refused.
    pub(crate) fail_open: bool,
}

#[derive(Debug)]
enum Order {
    Child(OwnedFd),
    Spared(oneshot::Sender<Option<Spared>>),
    Done(oneshot::Sender<Option<Spared>>),
}

/// How a while with a daemon, or without one, ended.
enum Turn {
    Lost,
    Finished,
}

struct Watch {
    post: Post,
    orders: mpsc::Receiver<Order>,
    child: Option<OwnedFd>,
    /// What the first lease brought.
    trusts: Vec<String>,
    said: bool,
}

// === impl Guard ===

impl Guard {
    /// Begins to watch over `lease`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn begin(lease: Lease, post: Post) -> io::Result<Self> {
        let (orders, received) = mpsc::channel(4);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let trusts = lease.grant.authorities.clone();
        let watch = Watch { post, orders: received, child: None, trusts, said: false };
        let thread = std::thread::Builder::new().name("guard".to_owned()).spawn(move || {
            runtime.block_on(watch.run(lease));
            // A daemon may still be looked for; nobody waits for it any more.
            runtime.shutdown_background();
        })?;
        Ok(Self { orders, thread })
    }

    /// Tells the daemon of the command, so that it is served even if this process is killed.
    pub(crate) fn child(&self, pidfd: OwnedFd) {
        let _ = self.orders.blocking_send(Order::Child(pidfd));
    }

    /// What the lease has done so far; `None` while there is no daemon to say it.
    pub(crate) async fn spared(&self) -> Option<Spared> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order::Spared(answer)).await.ok()?;
        answered.await.ok().flatten()
    }

    /// Ends the lease; returns what it did, if the daemon is there to say it.
    #[must_use]
    pub(crate) fn finish(self) -> Option<Spared> {
        let (answer, answered) = oneshot::channel();
        let sent = self.orders.blocking_send(Order::Done(answer));
        let spared = sent.ok().and_then(|()| answered.blocking_recv().ok()).flatten();
        drop(self.orders);
        let _ = self.thread.join();
        spared
    }
}

// === impl Watch ===

impl Watch {
    async fn run(mut self, lease: Lease) {
        let mut next = Some(lease);
        while let Some(lease) = next.take() {
            match self.with_daemon(lease).await {
                Turn::Finished => return,
                // The socket is closed with us: who needs the daemon is told at once that it is gone.
                Turn::Lost if !self.post.fail_open => return,
                Turn::Lost => next = self.without_daemon().await,
            }
        }
    }

    async fn with_daemon(&mut self, lease: Lease) -> Turn {
        let stream = lease.channel.stream().try_clone();
        let Ok(stream) = stream.and_then(|stream| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        }) else {
            return Turn::Lost;
        };
        let mut inbox = Inbox::default();
        if let Some(child) = &self.child {
            let _ = dfget_lease::send(&stream, &ToDaemon::Child, &[child.as_fd()]);
        }
        let mut refresh = tokio::time::interval(REFRESH);
        loop {
            tokio::select! {
                said = dfget_lease::next::<FromDaemon>(&stream, &mut inbox) => match said {
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return Turn::Lost,
                },
                order = self.orders.recv() => match order {
                    Some(Order::Child(pidfd)) => {
                        let _ = dfget_lease::send(&stream, &ToDaemon::Child, &[pidfd.as_fd()]);
                        self.child = Some(pidfd);
                    }
                    Some(Order::Spared(answer)) => {
                        let asked = tokio::time::timeout(SPARED_PATIENCE, ask_spared(&stream, &mut inbox)).await;
                        let _ = answer.send(asked.ok().flatten());
                    }
                    Some(Order::Done(answer)) => {
                        let asked = tokio::time::timeout(SPARED_PATIENCE, ask_spared(&stream, &mut inbox)).await;
                        let _ = answer.send(asked.ok().flatten());
                        return Turn::Finished;
                    }
                    None => return Turn::Finished,
                },
                _ = refresh.tick() => self.post.bundles.refresh(SystemTime::now()),
            }
        }
    }

    /// Serves the command's connections until there is a daemon again; `None` when the command
    /// has ended before.
    async fn without_daemon(&mut self) -> Option<Lease> {
        if !std::mem::replace(&mut self.said, true) {
            (self.post.say)("the daemon is gone; what comes now goes directly, without a cache");
        }
        let closing = CancellationToken::new();
        let proxy = self.tunnels(&closing);
        let mut pauses = PAUSES.into_iter();
        let mut pause = Duration::ZERO;
        let found = 'seeking: loop {
            pause = pauses.next().unwrap_or(pause);
            let mut attempt = pin!(self.seek_after(pause));
            let found = loop {
                tokio::select! {
                    found = &mut attempt => break found,
                    order = self.orders.recv() => match order {
                        Some(Order::Child(pidfd)) => self.child = Some(pidfd),
                        Some(Order::Spared(answer)) => {
                            let _ = answer.send(None);
                        }
                        // A daemon that is just being started must not hold the end up.
                        Some(Order::Done(answer)) => {
                            let _ = answer.send(None);
                            break 'seeking None;
                        }
                        None => break 'seeking None,
                    },
                }
            };
            if found.is_some() {
                break found;
            }
        };
        closing.cancel();
        if found.is_none()
            && let Some(proxy) = proxy
        {
            proxy.close(Duration::ZERO).await;
        }
        found
    }

    /// Another daemon, with the authorities that the command's programs know, looked for after a pause.
    fn seek_after(&self, pause: Duration) -> impl Future<Output = Option<Lease>> + use<> {
        let (mut seeker, listener) = (self.post.seeker.clone(), self.post.listener.try_clone());
        seeker.request.trusts.clone_from(&self.trusts);
        async move {
            tokio::time::sleep(pause).await;
            let listener = listener.ok()?;
            tokio::task::spawn_blocking(move || seeker.find(&listener, &mut |_| {})).await.ok()?.ok()
        }
    }

    /// A proxy that hijacks nothing, on the command's own socket.
    fn tunnels(&self, closing: &CancellationToken) -> Option<Proxy> {
        let upstream = self.post.seeker.start.way().upstream().ok().flatten();
        let proxy = blind_proxy(upstream)?;
        let listener = self.post.listener.try_clone().ok()?;
        listener.set_nonblocking(true).ok()?;
        let listener = tokio::net::TcpListener::from_std(listener).ok()?;
        let login = ProxyLogin::basic("lease", &self.post.seeker.request.secret);
        let entrance = Entrance {
            admission: Admission { login: Some(login), targets: Vec::new() },
            lenient: true,
            closing: closing.clone(),
            ..Entrance::default()
        };
        proxy.spawn_serve(listener, Arc::new(entrance));
        Some(proxy)
    }
}

async fn ask_spared(stream: &UnixStream, inbox: &mut Inbox) -> Option<Spared> {
    dfget_lease::send(stream, &ToDaemon::Done, &[]).ok()?;
    loop {
        if let (FromDaemon::Spared(spared), _) = dfget_lease::next(stream, inbox).await.ok()?? {
            return Some(spared);
        }
    }
}

/// A proxy that stores nothing and opens nothing.
fn blind_proxy(upstream: Option<Upstream>) -> Option<Proxy> {
    let (roots, _) = Roots::new(Vec::new());
    let config = roots.client_config(&OriginTrust::default()).ok()?;
    let trust = Trust { config, insecure: false };
    let origin = OriginClient::new(OriginOptions {
        trust: Box::new(move |_| trust.clone()),
        timeouts: PerScheme::default(),
        upstream,
        budget: None,
        limiter: None,
        retries: Retries::default(),
        prefer_ipv6: false,
        destinations: Destinations::of_own_user(),
        observe: Box::new(|_, _| {}),
        tracer: Default::default(),
    });
    let options = TaskOptions {
        reuse: false,
        finish_abandoned: false,
        prefetch: false,
        most_fetches: 1,
        split: SplitOptions::default(),
    };
    let metrics = Metrics::new(BuildInfo { version: env!("CARGO_PKG_VERSION"), commit: "" });
    let tasks = Tasks::new(None, origin, options, metrics);
    let options = ProxyOptions {
        filter: dfget_core::UrlFilter::new(std::iter::empty::<String>()),
        tag: String::new(),
        application: String::new(),
        priority: 0,
        dump_headers: false,
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        access: AccessOptions { ttl: Duration::ZERO, offline_grace: None },
        freshness: Duration::ZERO,
        realms: Realms::default(),
        max_concurrency: None,
        peer_prefix: String::new(),
        secret: [0; 32],
    };
    Some(Proxy::new(options, tasks))
}
