//! The proxy of a site: a real squid, which is all that leads to registries.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::namespace::{clients_dir, root_dir};
use super::process::{run, until};

/// A running squid; killed when dropped.
#[derive(Debug)]
pub(crate) struct Squid {
    child: Child,
}

/// User and password of the site.
pub(crate) const LOGIN: &str = "site:canary-secret";

const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 20)), 3128);

impl Squid {
    /// Puts squid where `make bench` has it too, unless it is there.
    #[track_caller]
    pub(crate) fn unpacked() -> PathBuf {
        let place = place();
        fs::create_dir_all(place.parent().expect("it lies in a directory"))
            .expect("the build directory is ours");
        run(Command::new(root_dir().join("bench/squid")).arg(&place)).ok();
        place
    }

    /// Starts it; with `asks` it wants [`LOGIN`] of everybody. It takes connections when this returns.
    #[track_caller]
    pub(crate) fn start(asks: bool) -> Self {
        let (root, run_dir) = (place(), Path::new("/tmp/squid"));
        fs::create_dir_all(run_dir).expect("/tmp is ours");
        let login = run_dir.join("login");
        let wanted = LOGIN.replace(':', " ");
        let script = format!(
            "#!/bin/sh\nwhile read -r line; do [ \"$line\" = '{wanted}' ] && echo OK || echo ERR; done\n"
        );
        fs::write(&login, script).expect("/tmp is ours");
        fs::set_permissions(&login, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        let access = match asks {
            true => format!(
                "auth_param basic program {}\nauth_param basic realm site\nacl known proxy_auth REQUIRED\n\
                 http_access allow known\nhttp_access deny all\n",
                login.display()
            ),
            false => "http_access allow all\n".to_owned(),
        };
        let configuration = format!(
            "http_port {ADDRESS}\n{access}cache deny all\nhosts_file /etc/hosts\n\
             cache_effective_user nobody\ncache_effective_group nogroup\npid_filename none\n\
             access_log stdio:{run}/access.log\ncache_store_log none\ncache_log {run}/log\ncoredump_dir {run}\n\
             mime_table {root}/usr/share/squid/mime.conf\nicon_directory {root}/usr/share/squid/icons\n\
             error_directory {root}/usr/share/squid-langpack/templates\n\
             unlinkd_program {root}/usr/lib/squid/unlinkd\nlogfile_daemon {root}/usr/lib/squid/log_file_daemon\n\
             pinger_enable off\nshutdown_lifetime 0 seconds\nmax_filedescriptors 1024\n",
            run = run_dir.display(),
            root = root.display(),
        );
        let file = run_dir.join("squid.conf");
        fs::write(&file, configuration).expect("/tmp is ours");
        run(Command::new("chown").args(["-R", "nobody"]).arg(run_dir)).ok();
        let child = Command::new(root.join("usr/sbin/squid"))
            .args(["-N", "-f"])
            .arg(file)
            .env("LD_LIBRARY_PATH", root.join("lib"))
            .spawn()
            .expect("squid can be started");
        let mut squid = Self { child };
        until("squid to listen", || {
            if let Ok(Some(status)) = squid.child.try_wait() {
                panic!("squid ended with {status}:\n{}", read("log"));
            }
            TcpStream::connect(ADDRESS).ok()
        });
        squid
    }

    /// Its URL, with this login.
    pub(crate) fn url(login: Option<&str>) -> String {
        login.map_or_else(|| format!("http://{ADDRESS}"), |login| format!("http://{login}@{ADDRESS}"))
    }

    /// The lines of its access log that contain `text`, at least one.
    #[track_caller]
    pub(crate) fn logged(&self, text: &str) -> Vec<String> {
        until(&format!("squid to log {text}"), || {
            let log = read("access.log");
            let lines: Vec<_> = log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect();
            (!lines.is_empty()).then_some(lines)
        })
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // Either may fail when it ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("squid said:\n{}{}", read("log"), read("access.log"));
        }
    }
}

fn place() -> PathBuf {
    clients_dir().with_file_name("bench").join("squid")
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new("/tmp/squid").join(name)).unwrap_or_default()
}
