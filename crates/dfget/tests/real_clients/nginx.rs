//! Ranges, compared with nginx: ten thousand `Range` headers, each sent to nginx for a file and to the daemon for the
//! same file in its store. Status, `Content-Range` and bytes must be the same, of several ranges those of each part.
//!
//! Where nginx departs from RFC 9110 the daemon follows the RFC, see [`Departure`]. Such a header is compared too: with
//! what nginx answers to a header that means the same and that it understands.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{env, fmt};

use dfget_testkit::{Blob, Client, Connection, Request, Response, TestCa};

use super::support::{Daemon, clients_dir, in_namespace, until};

const HEADERS: usize = 10_000;

/// More than a block of the store, and no multiple of anything.
const LEN: u64 = 140_017;

/// The daemon's limit to the ranges of one header, set for nginx too.
const MOST_RANGES: usize = 100;

/// Where nginx listens.
const NGINX: &str = "198.51.100.16:5080";

const DAEMON: &str = "127.0.0.1:65001";

/// So many answers of nginx to headers of each departure are looked at, to see that it still departs.
const LOOKED_AT: usize = 40;

/// Where nginx does otherwise than RFC 9110, and why the daemon does not follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Departure {
    /// A set that breaks the grammar, `last` before `first` included (section 14.1.1). A server may ignore or reject
    /// it (section 14.2). The daemon ignores all of them; nginx answers 416 to most, ignores some, and serves others
    /// as if the wrong part were not there.
    BrokenGrammar,
    /// A number past 2^63 is a number like any other (section 14.1.2). nginx answers 416.
    LargeNumber,
    /// Empty elements and tabs belong to a list (sections 5.6.1.2 and 5.6.3). nginx answers 416.
    ListSyntax,
}

const DEPARTURES: [Departure; 3] = [Departure::BrokenGrammar, Departure::LargeNumber, Departure::ListSyntax];

/// A `Range` header for the daemon and one for nginx that means the same; `None` = no such header.
struct Case {
    ours: String,
    nginx: Option<String>,
    departure: Option<Departure>,
}

/// What is compared of an answer.
#[derive(PartialEq, Eq)]
struct Outcome {
    status: u16,
    parts: Vec<Part>,
}

#[derive(PartialEq, Eq)]
struct Part {
    content_range: Option<String>,
    bytes: Vec<u8>,
}

#[test]
fn ten_thousand_range_headers_get_from_the_store_what_nginx_answers() {
    in_namespace(|| {
        let blob = Blob::random(usize::try_from(LEN).unwrap(), 1);
        let path = format!("/v2/public/sif/blobs/{}", blob.digest);
        let _nginx = Nginx::serve(&path, &blob.bytes);
        let _daemon = Daemon::start();
        let url = format!("http://{NGINX}{path}");
        let mut ours = connection(DAEMON, &url);
        let whole = ours.fetch(&Request::get(&url)).expect("an answer");
        assert!(whole.status == 200 && whole.body == blob.bytes[..]);
        let mut nginx = connection(NGINX, &url);

        let seed =
            env::var("DFGET_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
        println!("the headers follow from DFGET_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut statuses, mut several) = ([0; 3], 0);
        let mut departed = [(0, 0); DEPARTURES.len()];
        for number in 0..HEADERS {
            let case = Case::random(&mut random);
            let right = ask(&mut nginx, &url, case.nginx.as_deref());
            let got = ask(&mut ours, &url, Some(&case.ours));
            assert!(
                got == right,
                "DFGET_SEED={seed}, header {number}, Range: {:?}: {got}; nginx to {:?}: {right}",
                case.ours,
                case.nginx
            );
            statuses[[200, 206, 416]
                .iter()
                .position(|&status| status == got.status)
                .expect("no other status")] += 1;
            several += usize::from(got.parts.len() > 1);
            if let Some(departure) = case.departure {
                let (looked, differed) = &mut departed[departure as usize];
                if *looked < LOOKED_AT {
                    *looked += 1;
                    *differed += usize::from(ask(&mut nginx, &url, Some(&case.ours)) != got);
                }
            }
        }
        assert!(statuses.iter().all(|&count| count > HEADERS / 50), "200, 206, 416: {statuses:?}");
        assert!(several > HEADERS / 20, "{several} answers in parts");
        for (departure, (looked, differed)) in DEPARTURES.iter().zip(departed) {
            assert!(
                differed > 0,
                "nginx did as we do in {looked} cases of {departure:?}: it is none any more"
            );
        }
    });
}

fn connection(server: &str, url: &str) -> Connection {
    let client =
        Client::new(server.parse().expect("an address"), TestCa::new("of no use").client_config(&[]));
    client.open(url).expect("it listens").expect("no tunnel is asked for")
}

fn ask(connection: &mut Connection, url: &str, range: Option<&str>) -> Outcome {
    let request = Request::get(url);
    let request = range.iter().fold(request, |request, range| request.range(range));
    let response = connection.fetch(&request).expect("an answer");
    assert!(response.is_complete(), "{range:?}: {:?}", response.end);
    Outcome::of(response)
}

// === impl Outcome ===

impl Outcome {
    fn of(response: Response) -> Self {
        let content_range = response.header("content-range").map(str::to_owned);
        let boundary = response
            .header("content-type")
            .and_then(|kind| kind.strip_prefix("multipart/byteranges; boundary="));
        let parts = match (response.status, boundary) {
            (206, Some(boundary)) => {
                assert_eq!(content_range, None, "that is the parts' own");
                decode(&response.body, boundary)
            }
            // What is said beside it is each server's own.
            (416, _) => vec![Part { content_range, bytes: Vec::new() }],
            _ => vec![Part { content_range, bytes: response.body }],
        };
        Self { status: response.status, parts }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        for part in &self.parts {
            write!(f, " [{} bytes, {:?}]", part.bytes.len(), part.content_range)?;
        }
        Ok(())
    }
}

/// The parts of a `multipart/byteranges` body, read by their lengths: the bytes may hold anything.
fn decode(body: &[u8], boundary: &str) -> Vec<Part> {
    let delimiter = format!("--{boundary}");
    let mut rest = body.strip_prefix(b"\r\n").unwrap_or(body);
    let mut parts = Vec::new();
    loop {
        rest = rest.strip_prefix(delimiter.as_bytes()).expect("a delimiter");
        if rest == b"--\r\n" {
            return parts;
        }
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = str::from_utf8(&rest[..end]).expect("text");
        assert!(head.contains("\r\nContent-Type: application/octet-stream"), "{head}");
        let range = head.split("\r\n").find_map(|line| line.strip_prefix("Content-Range: ")).expect(head);
        let (first, last) = range
            .strip_prefix("bytes ")
            .and_then(|range| range.split_once('/'))
            .and_then(|(range, _)| range.split_once('-'))
            .expect(range);
        let len = last.parse::<usize>().expect(range) - first.parse::<usize>().expect(range) + 1;
        let (bytes, after) = rest[end + 4..].split_at(len);
        parts.push(Part { content_range: Some(range.to_owned()), bytes: bytes.to_vec() });
        rest = after.strip_prefix(b"\r\n").expect("the end of a part");
    }
}

// === impl Case ===

impl Case {
    /// A header of any kind. Most are good ones; every kind comes hundreds of times.
    fn random(random: &mut fastrand::Rng) -> Self {
        match random.u8(..100) {
            0..4 => Self::same(other_unit(random)),
            4..14 => Self::broken(random),
            14..24 => Self::with_large_number(random),
            24..34 => Self::with_list_syntax(random),
            34..38 => Self::same(format!("bytes={}", vec!["5-5"; random.usize(90..120)].join(","))),
            38..68 => Self::same(format!("{}{}", unit(random), spec(random))),
            _ => {
                let count = random.usize(2..6);
                let separators = [",", ", ", " ,", " , "];
                let mut text = unit(random);
                for index in 0..count {
                    if index > 0 {
                        text.push_str(separators[random.usize(..separators.len())]);
                    }
                    text.push_str(&spec(random));
                }
                Self::same(text)
            }
        }
    }

    fn same(text: String) -> Self {
        Self { nginx: Some(text.clone()), ours: text, departure: None }
    }

    /// One element of the set is none.
    fn broken(random: &mut fastrand::Rng) -> Self {
        let number = random.u64(..LEN);
        let wrong = match random.u8(..9) {
            0 => format!("{}-{number}", number + random.u64(1..LEN)),
            1 => format!("{number}"),
            2 => format!("+{number}-"),
            3 => format!("0x{number:x}-"),
            4 => format!("{number} - {}", number + 9),
            5 => format!("--{number}"),
            6 => format!("{number}-{}-", number + 1),
            7 => format!("{number}.5-"),
            _ => ["-", "a-b", "*", "0-;", "\"0-1\"", "0-1 2-3", "0\u{2013}5"][random.usize(..7)].to_owned(),
        };
        let mut specs: Vec<_> = (0..random.usize(..3)).map(|_| spec(random)).collect();
        specs.insert(random.usize(..=specs.len()), wrong);
        let ours = format!("bytes={}", specs.join(","));
        Self { ours, nginx: None, departure: Some(Departure::BrokenGrammar) }
    }

    /// A number that no 64 bits with a sign hold; for nginx the largest that it can read.
    fn with_large_number(random: &mut fastrand::Rng) -> Self {
        let large = format!("{}{}", random.u64(1..10), "8".repeat(random.usize(19..40)));
        let form = ["N-", "F-N", "-N"][random.usize(..3)].replace('F', &random.u64(..LEN).to_string());
        let mut specs: Vec<_> = (0..random.usize(..3)).map(|_| spec(random)).collect();
        specs.insert(random.usize(..=specs.len()), form);
        let text = format!("bytes={}", specs.join(","));
        let readable = text.replace('N', &(i64::MAX - 1).to_string());
        Self {
            ours: text.replace('N', &large),
            nginx: Some(readable),
            departure: Some(Departure::LargeNumber),
        }
    }

    /// Empty elements and tabs between good ones.
    fn with_list_syntax(random: &mut fastrand::Rng) -> Self {
        let specs: Vec<_> = (0..random.usize(1..4)).map(|_| spec(random)).collect();
        let separators = [",,", ", ,", ",\t", "\t,", " ,\t,"];
        let mut ours = format!("bytes={}", [",", ", ", ",\t,", ",,"][random.usize(..4)]);
        for (index, spec) in specs.iter().enumerate() {
            if index > 0 {
                ours.push_str(separators[random.usize(..separators.len())]);
            }
            ours.push_str(spec);
        }
        ours.push_str(["", ",", ",,", " ,"][random.usize(..4)]);
        let nginx = Some(format!("bytes={}", specs.join(",")));
        Self { ours, nginx, departure: Some(Departure::ListSyntax) }
    }
}

fn unit(random: &mut fastrand::Rng) -> String {
    ["bytes=", "bytes=", "bytes=", "Bytes=", "BYTES=", "bytes= "][random.usize(..6)].to_owned()
}

fn other_unit(random: &mut fastrand::Rng) -> String {
    let units = ["lines=", "octets=", "bytes:", "bytes", "bytes ", "byte=", "=", "", "bytes =", "x bytes="];
    format!("{}{}", units[random.usize(..units.len())], spec(random))
}

/// A good range; one in five lies outside of the file, and many have an end in common with a block or the file.
fn spec(random: &mut fastrand::Rng) -> String {
    const EDGES: [u64; 9] = [0, 1, 131_071, 131_072, 131_073, LEN - 2, LEN - 1, LEN, LEN + 1];
    let place = |random: &mut fastrand::Rng| match random.u8(..10) {
        0..3 => EDGES[random.usize(..EDGES.len())],
        3 => random.u64(LEN..2 * LEN),
        _ => random.u64(..LEN),
    };
    let first = place(random);
    match random.u8(..10) {
        0..2 => format!("-{first}"),
        2..3 => format!("-{:03}", random.u64(..300)),
        3..5 => format!("{first}-"),
        5..6 => format!("{first:09}-{}", first + random.u64(..3 * LEN)),
        6..8 => format!("{first}-{}", first.max(place(random))),
        _ => format!("{first}-{}", first + random.u64(..500)),
    }
}

/// A running nginx; ended when dropped.
struct Nginx(Child);

impl Nginx {
    /// Serves these bytes at `path`.
    fn serve(path: &str, bytes: &[u8]) -> Self {
        let home = Path::new("/tmp/nginx");
        let file = home.join("www").join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().expect("a directory")).expect("/tmp is ours");
        fs::write(file, bytes).expect("/tmp is ours");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path /tmp/nginx/temporary;\n"))
            .concat();
        let configuration = format!(
            "user root;\nmaster_process off;\ndaemon off;\npid /tmp/nginx/pid;\nevents {{}}\nhttp {{\n\
             access_log off;\ndefault_type application/octet-stream;\nkeepalive_requests 1000000;\n\
             max_ranges {MOST_RANGES};\n{temporary}\
             server {{ listen {NGINX}; root /tmp/nginx/www; }}\n}}\n"
        );
        fs::write(home.join("conf"), configuration).expect("/tmp is ours");
        let child = Command::new(clients_dir().join("bin/nginx"))
            .args(["-c", "/tmp/nginx/conf", "-e", "/tmp/nginx/errors"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is there");
        until("nginx to listen", || std::net::TcpStream::connect(NGINX).ok());
        Self(child)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
