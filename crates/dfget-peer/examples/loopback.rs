//! How fast a content goes from one node to another on this machine, beside nginx.
//!
//! | arguments | what it does |
//! |---|---|
//! | `parent DIR MIB CLEAR TLS` | makes a content of so many MiB, and hands it out at these two addresses until it is ended |
//! | `child WAY ADDRESS MIB AT_ONCE` | fetches it, `clear` or through `TLS`, by units as a daemon does, so many at once |
//! | `reader WAY ADDRESS MIB AT_ONCE [CERTIFICATE]` | the same from a server of HTTP, of `/file`, by ranges as long as pieces |
//! | `[MIB] [NGINX]` | all of it, for people: by one, two, four and eight fetches, beside the nginx of this path |
//!
//! Child and reader compare or compute the CRC of what comes and let the bytes go; their output is one line: seconds,
//! and seconds of processor. `make bench ONLY=loopback` starts them like this.

use std::error::Error;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use dfget_cluster::{ClusterKey, Dialer, Door, Identity, PeerStream};
use dfget_core::{ByteRange, piece_length, piece_range, unit_length};
use dfget_peer::{Asker, Holding, Holdings, Patience, PeerClient, UploadOptions, Uploads, listen};
use dfget_proto::vortex::UNIT;
use dfget_storage::{Entry, EntryKey, Options, Store};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The only content of the parent.
struct One(Holding);

impl Holdings for One {
    fn find(&self, _task: &str, _asker: &Asker) -> Option<Holding> {
        Some(self.0.clone())
    }
}

/// What one transfer took.
struct Took {
    seconds: f64,
    /// Of processor, here.
    cpu: f64,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let took = match arguments.as_slice() {
        ["parent", dir, mib, clear, tls] => {
            return runtime.block_on(parent(Path::new(dir), mib.parse()?, [clear.parse()?, tls.parse()?]));
        }
        ["child", way, address, mib, at_once] => {
            let dialer = Dialer { tls: if *way == "TLS" { Some(identity()?.client()) } else { None } };
            runtime.block_on(children(dialer, address.parse()?, mib.parse()?, at_once.parse()?))?
        }
        ["reader", way, address, mib, at_once, certificate @ ..] => {
            let tls = match certificate {
                [file] if *way == "TLS" => Some(trusting(&std::fs::read(file)?)?),
                _ => None,
            };
            runtime.block_on(readers(Dialer { tls }, address.parse()?, mib.parse()?, at_once.parse()?))?
        }
        others => {
            let mib = others.first().map_or(Ok(1024), |mib| mib.parse())?;
            return compare(mib, others.get(1).copied());
        }
    };
    writeln!(std::io::stdout(), "{:.4} {:.2}", took.seconds, took.cpu)?;
    Ok(())
}

fn identity() -> Result<Identity> {
    Ok(Identity::from_key(&ClusterKey::from_bytes([7; 32]), &["127.0.0.1".to_owned()])?)
}

/// What goes to a server with this certificate, by the cipher that nodes take.
fn trusting(certificate: &[u8]) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate)?)?;
    let cipher_suites = vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let provider = Arc::new(CryptoProvider { cipher_suites, ..provider::default_provider() });
    let config =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Hands out a content until the process is ended.
async fn parent(dir: &Path, mib: u64, at: [SocketAddr; 2]) -> Result<()> {
    let options = Options { dir: dir.join("store"), quota_bytes: None, disk_percent: None, expire: None };
    let (store, _) = Store::open(options, SystemTime::now())?;
    let total = mib << 20;
    let entry = store.create(EntryKey::from("a"), vec![], Some(total), SystemTime::now())?;
    fill(&entry, total)?;
    store.publish(&entry, EntryKey::from("a"), vec![])?;
    // Else the first seconds are those of a file that was written just now.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let holding = Holding { entry, progress: None, ended: CancellationToken::new(), round: 0 };
    let uploads = Uploads::new(UploadOptions::new(Ipv4Addr::LOCALHOST.into(), 0), Arc::new(One(holding)));
    let doors = [Door { tls: None, plain: true }, Door { tls: Some(identity()?.server()), plain: false }];
    let mut serving = JoinSet::new();
    for (door, at) in doors.into_iter().zip(at) {
        let (uploads, listener) = (uploads.clone(), listen(at)?);
        serving.spawn(async move { uploads.serve(listener, door, CancellationToken::new()).await });
    }
    serving.join_all().await;
    Ok(())
}

fn fill(entry: &Arc<Entry>, total: u64) -> Result<()> {
    let words = (0..1_u64 << 17).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    let mut bytes: Vec<u8> = words.collect();
    for at in (0..total).step_by(1 << 20) {
        bytes[..8].copy_from_slice(&at.to_le_bytes());
        entry.append(at, &bytes)?;
    }
    Ok(())
}

/// Fetches all units from a parent, so many at once.
async fn children(dialer: Dialer, to: SocketAddr, mib: u64, at_once: u32) -> Result<Took> {
    let client = PeerClient::new(dialer, "me".to_owned());
    let (next, began, cpu) = (Arc::new(AtomicU32::new(0)), Instant::now(), cpu_seconds("self")?);
    let mut fetches = JoinSet::new();
    for _ in 0..at_once {
        fetches.spawn(fetch(client.clone(), to, mib << 20, Arc::clone(&next)));
    }
    while let Some(fetched) = fetches.join_next().await {
        fetched??;
    }
    Ok(Took { seconds: began.elapsed().as_secs_f64(), cpu: cpu_seconds("self")? - cpu })
}

/// Fetches units until there is none left.
async fn fetch(client: PeerClient, to: SocketAddr, total: u64, next: Arc<AtomicU32>) -> Result<()> {
    let task = "a".repeat(64);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(range) = piece_range(number.into(), total, unit_length(total)) else { return Ok(()) };
        client.fetch(to, &task, number | UNIT, range, &Patience::default()).await?;
    }
}

/// Reads all ranges from a server, by so many connections.
async fn readers(dialer: Dialer, to: SocketAddr, mib: u64, at_once: u32) -> Result<Took> {
    let (next, began, cpu) = (Arc::new(AtomicU32::new(0)), Instant::now(), cpu_seconds("self")?);
    let mut reads = JoinSet::new();
    for _ in 0..at_once {
        let (dialer, next) = (dialer.clone(), Arc::clone(&next));
        reads.spawn(async move {
            let stream = dialer.dial_for_bulk(to, Duration::from_secs(5)).await?;
            read_ranges(stream, mib << 20, next).await
        });
    }
    while let Some(read) = reads.join_next().await {
        read??;
    }
    Ok(Took { seconds: began.elapsed().as_secs_f64(), cpu: cpu_seconds("self")? - cpu })
}

/// Asks for one range after another, and lets the bytes go after their CRC.
async fn read_ranges(mut stream: PeerStream, total: u64, next: Arc<AtomicU32>) -> Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(range) = piece_range(number.into(), total, piece_length(total)) else { return Ok(()) };
        let (already, mut crc) = ask(&mut stream, range, &mut buffer).await?;
        let mut left = range.len() - already;
        while left > 0 {
            let most = usize::try_from(left)?.min(buffer.len());
            stream.read_exact(&mut buffer[..most]).await?;
            crc.update(&buffer[..most]);
            left -= most as u64;
        }
        std::hint::black_box(crc.finalize());
    }
}

/// Asks for a range and reads the head of the answer; how many bytes of the body came with it, and their CRC.
async fn ask(
    stream: &mut PeerStream,
    range: ByteRange,
    buffer: &mut [u8],
) -> Result<(u64, crc32fast::Hasher)> {
    let asked = format!("GET /file HTTP/1.1\r\nHost: a\r\nRange: {}\r\n\r\n", range.to_header());
    stream.write_all(asked.as_bytes()).await?;
    stream.flush().await?;
    let mut head = 0;
    let end = loop {
        let got = stream.read(&mut buffer[head..]).await?;
        if got == 0 {
            return Err("the server closes the connection".into());
        }
        head += got;
        if let Some(end) = buffer[..head].windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    if !buffer.starts_with(b"HTTP/1.1 206") {
        return Err("the server does not send the range".into());
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&buffer[end..head]);
    Ok(((head - end) as u64, crc))
}

/// Everything, told line by line.
fn compare(mib: u64, nginx: Option<&str>) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("dfget-loopback-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(&dir, mib, nginx);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(dir: &Path, mib: u64, nginx: Option<&str>) -> Result<()> {
    let at = [free()?, free()?];
    let mut own = Command::new(std::env::current_exe()?);
    own.args(["parent".as_ref(), dir.as_os_str()]).arg(mib.to_string());
    let parent = Ended(own.args(at.map(|at| at.to_string())).stdin(Stdio::null()).spawn()?);
    rounds("dfget", "child", &parent, at, mib, None)?;
    drop(parent);
    let Some(nginx) = nginx else { return Ok(()) };
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    std::fs::write(dir.join("cert.pem"), certificate.pem())?;
    std::fs::write(dir.join("key.pem"), key.serialize_pem())?;
    let mut file = std::fs::File::create(dir.join("file"))?;
    for at in (0..mib << 20).step_by(1 << 20) {
        file.write_all(&at.to_le_bytes().repeat(1 << 17))?;
    }
    let at = [free()?, free()?];
    std::fs::write(dir.join("nginx.conf"), nginx_conf(dir, at))?;
    let config = dir.join("nginx.conf");
    let server = Ended(Command::new(nginx).arg("-p").arg(dir).arg("-c").arg(config).spawn()?);
    rounds("nginx", "reader", &server, at, mib, Some(&dir.join("cert.pem")))
}

/// Transfers from a server at these two addresses, each by a process of its own.
fn rounds(
    who: &str,
    role: &str,
    server: &Ended,
    at: [SocketAddr; 2],
    mib: u64,
    certificate: Option<&Path>,
) -> Result<()> {
    while at.iter().any(|at| std::net::TcpStream::connect(at).is_err()) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let gib = mib as f64 / 1024.0;
    for (way, at) in ["clear", "TLS"].into_iter().zip(at) {
        for at_once in ROUNDS {
            let before = cpu_seconds(&server.0.id().to_string())?;
            let mut child = Command::new(std::env::current_exe()?);
            child.args([role, way, &at.to_string(), &mib.to_string(), &at_once.to_string()]);
            let output = child.args(certificate).stderr(Stdio::inherit()).output()?;
            let served = (cpu_seconds(&server.0.id().to_string())? - before) / gib;
            let line = String::from_utf8(output.stdout)?;
            let (seconds, cpu) = line.trim().split_once(' ').ok_or("no result")?;
            let rate = (mib << 20) as f64 / seconds.parse::<f64>()? / 1e6;
            let cpu = cpu.parse::<f64>()? / gib;
            writeln!(
                std::io::stdout(),
                "{way:5} {who:5} {at_once} at once: {rate:6.0} MB/s; s/GiB: {served:.2} there, {cpu:.2} here"
            )?;
        }
    }
    Ok(())
}

fn nginx_conf(dir: &Path, at: [SocketAddr; 2]) -> String {
    let (dir, [clear, tls]) = (dir.display(), at);
    format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 100000;\n\
         client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;\n\
         uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
         server {{ listen {clear}; listen {tls} ssl; root {dir};\n\
         ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem; ssl_protocols TLSv1.3; }} }}\n"
    )
}

/// An address that nobody listens at now.
fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Seconds of processor that a process took so far.
fn cpu_seconds(process: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may hold spaces and parentheses; behind it, user and system time are the 12th and 13th.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<std::result::Result<u64, _>>()?;
    Ok(ticks as f64 / 100.0)
}

/// A process that does not outlive us.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fetches at once; the first round warms the caches.
const ROUNDS: [u32; 8] = [1, 1, 2, 4, 8, 4, 2, 1];
