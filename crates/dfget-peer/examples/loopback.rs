//! How fast a content goes from one node to another on this machine, beside nginx.
//!
//! `loopback [MIB] [NGINX]`: moves a content of so many MiB (1024) several times, by one, two, four and eight
//! fetches at once, in clear and through TLS; the child compares the CRCs and lets the bytes go. With the path of
//! an nginx, the same from it, by ranges as long as pieces, to a reader that computes the same CRCs.

use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use dfget_cluster::{ClusterKey, Dialer, Door, Identity, PeerStream};
use dfget_core::{piece_length, piece_range};
use dfget_peer::{Asker, Holding, Holdings, Patience, PeerClient, UploadOptions, Uploads, listen};
use dfget_storage::{Entry, EntryKey, Options, Store};
use rustls::{ClientConfig, RootCertStore};
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

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("parent") {
        let dir = arguments.next().ok_or("parent: a directory")?;
        let mib = arguments.next().ok_or("parent: a length")?.parse()?;
        return runtime()?.block_on(parent(Path::new(&dir), mib));
    }
    let mib: u64 = first.map_or(Ok(1024), |mib| mib.parse())?;
    runtime()?.block_on(compare(mib, arguments.next().as_deref()))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn identity() -> Result<Identity> {
    Ok(Identity::from_key(&ClusterKey::from_bytes([7; 32]), &["127.0.0.1".to_owned()])?)
}

/// Hands out a content until its standard input ends.
async fn parent(dir: &Path, mib: u64) -> Result<()> {
    let options = Options { dir: dir.join("store"), quota_bytes: None, disk_percent: None, expire: None };
    let (store, _) = Store::open(options, SystemTime::now())?;
    let total = mib << 20;
    let entry = store.create(EntryKey::from("a"), vec![], Some(total), SystemTime::now())?;
    fill(&entry, total)?;
    store.publish(&entry, EntryKey::from("a"), vec![])?;
    // Else the first seconds are those of a file that was written just now.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let holding = Holding { entry, progress: None, ended: CancellationToken::new(), again: false };
    let uploads = Uploads::new(UploadOptions::new(Ipv4Addr::LOCALHOST.into(), 0), Arc::new(One(holding)));
    let mut serving = JoinSet::new();
    let doors = [Door { tls: None, plain: true }, Door { tls: Some(identity()?.server()), plain: false }];
    for door in doors {
        let listener = listen(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
        let uploads = uploads.clone();
        serving.spawn(async move { uploads.serve(listener, door, CancellationToken::new()).await });
    }
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await?;
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

async fn compare(mib: u64, nginx: Option<&str>) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("dfget-loopback-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(&dir, mib, nginx).await;
    std::fs::remove_dir_all(&dir)?;
    result
}

async fn measure(dir: &Path, mib: u64, nginx: Option<&str>) -> Result<()> {
    let mut own = Command::new(std::env::current_exe()?);
    own.args(["parent".as_ref(), dir.as_os_str()]).arg(mib.to_string());
    let mut parent = Ended(own.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
    let output = parent.0.stdout.take().ok_or("the parent says nothing")?;
    let ports: Vec<String> =
        std::io::BufReader::new(output).lines().take(2).collect::<std::io::Result<_>>()?;
    let dialers = [Dialer { tls: None }, Dialer { tls: Some(identity()?.client()) }];
    let total = mib << 20;
    for ((way, port), dialer) in ["clear", "TLS"].into_iter().zip(&ports).zip(&dialers) {
        let (client, to) = (PeerClient::new(dialer.clone(), "me".to_owned()), port.parse()?);
        for at_once in ROUNDS {
            let next = Arc::new(AtomicU32::new(0));
            let began = Instant::now();
            let mut fetches = JoinSet::new();
            for _ in 0..at_once {
                fetches.spawn(fetch(client.clone(), to, total, Arc::clone(&next)));
            }
            while let Some(fetched) = fetches.join_next().await {
                fetched??;
            }
            tell(way, "dfget", at_once, total, began)?;
        }
    }
    drop(parent);
    if let Some(nginx) = nginx {
        beside(dir, nginx, total).await?;
    }
    Ok(())
}

/// Fetches pieces until there is none left.
async fn fetch(client: PeerClient, to: SocketAddr, total: u64, next: Arc<AtomicU32>) -> Result<()> {
    let task = "a".repeat(64);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(range) = piece_range(number.into(), total, piece_length(total)) else { return Ok(()) };
        client.fetch(to, &task, number, range, &Patience::default()).await?;
    }
}

/// The same from nginx.
async fn beside(dir: &Path, nginx: &str, total: u64) -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    std::fs::write(dir.join("cert.pem"), certificate.pem())?;
    std::fs::write(dir.join("key.pem"), key.serialize_pem())?;
    let mut file = std::fs::File::create(dir.join("file"))?;
    for at in (0..total).step_by(1 << 20) {
        file.write_all(&at.to_le_bytes().repeat(1 << 17))?;
    }
    let free = || Ok::<_, std::io::Error>(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
    let (clear, tls) = (free()?, free()?);
    std::fs::write(dir.join("nginx.conf"), nginx_conf(dir, clear, tls))?;
    let config = dir.join("nginx.conf");
    let _server = Ended(Command::new(nginx).arg("-p").arg(dir).arg("-c").arg(config).spawn()?);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone())?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let dialers = [Dialer { tls: None }, Dialer { tls: Some(Arc::new(config)) }];
    for ((way, port), dialer) in ["clear", "TLS"].into_iter().zip([clear, tls]).zip(&dialers) {
        for at_once in ROUNDS {
            let next = Arc::new(AtomicU32::new(0));
            let began = Instant::now();
            let mut reads = JoinSet::new();
            for _ in 0..at_once {
                let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
                let stream = dialer.dial(to, Duration::from_secs(5)).await?;
                reads.spawn(read_ranges(stream, total, Arc::clone(&next)));
            }
            while let Some(read) = reads.join_next().await {
                read??;
            }
            tell(way, "nginx", at_once, total, began)?;
        }
    }
    Ok(())
}

fn nginx_conf(dir: &Path, clear: u16, tls: u16) -> String {
    let dir = dir.display();
    format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 100000;\n\
         client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;\n\
         uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
         server {{ listen 127.0.0.1:{clear}; listen 127.0.0.1:{tls} ssl; root {dir};\n\
         ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem; ssl_protocols TLSv1.3;\n\
         ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; }} }}\n"
    )
}

/// Asks for one range after another, and lets the bytes go after their CRC.
async fn read_ranges(mut stream: PeerStream, total: u64, next: Arc<AtomicU32>) -> Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(range) = piece_range(number.into(), total, piece_length(total)) else { return Ok(()) };
        let asked = format!("GET /file HTTP/1.1\r\nHost: a\r\nRange: {}\r\n\r\n", range.to_header());
        stream.write_all(asked.as_bytes()).await?;
        stream.flush().await?;
        let mut head = 0;
        let end = loop {
            let got = stream.read(&mut buffer[head..]).await?;
            if got == 0 {
                return Err("nginx closes the connection".into());
            }
            head += got;
            if let Some(end) = buffer[..head].windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        if !buffer.starts_with(b"HTTP/1.1 206") {
            return Err("nginx does not send the range".into());
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&buffer[end..head]);
        let mut left = range.len() - (head - end) as u64;
        while left > 0 {
            let most = usize::try_from(left)?.min(buffer.len());
            stream.read_exact(&mut buffer[..most]).await?;
            crc.update(&buffer[..most]);
            left -= most as u64;
        }
        std::hint::black_box(crc.finalize());
    }
}

fn tell(way: &str, who: &str, at_once: u32, total: u64, began: Instant) -> Result<()> {
    let seconds = began.elapsed().as_secs_f64();
    let rate = total as f64 / seconds / 1e6;
    writeln!(std::io::stdout(), "{way:5} {who:5} {at_once} at once: {rate:6.0} MB/s ({seconds:.2} s)")?;
    Ok(())
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
