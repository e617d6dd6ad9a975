//! The flags of `dfget get`, those of Dragonfly 2.0.9 among them.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _};
use dfget_get::{Hints, Order, Output, Platform, Reference};
use dfget_run::ClusterWish;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::scalar;
use crate::arguments::{Arguments, JobClusterArguments};
use crate::values::duration;

/// Flags of `dfget get`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GetArguments {
    /// What to get: https://…, http://…, oras://… or docker://…
    #[arg(value_name = "URL", required_unless_present = "url_flag")]
    pub(crate) url: Option<String>,

    /// The same, as a flag
    #[arg(short = 'u', long = "url", id = "url_flag", value_name = "URL", conflicts_with = "url")]
    pub(crate) url_flag: Option<String>,

    /// The file, or `-` for standard output [default: by the URL]
    #[arg(short = 'O', value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The file, too; or `json` for one JSON object at the end
    #[arg(long, value_name = "FILE|json|text")]
    pub(crate) output: Vec<OsString>,

    /// Replace what is there
    #[arg(long)]
    pub(crate) force: bool,

    /// What it must hash to: sha256:… or sha512:…
    #[arg(long, value_name = "DIGEST")]
    pub(crate) digest: Option<String>,

    /// Send this header to the server of a URL; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,

    /// Only these bytes of a URL's content, such as 0-9
    #[arg(long, value_name = "FIRST-LAST", allow_hyphen_values = true)]
    pub(crate) range: Option<String>,

    /// Which image, where there are several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,

    /// Take logins from this file alone
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,

    /// Speak to the registry of oras:// and docker:// without TLS
    #[arg(long)]
    pub(crate) plain_http: bool,

    /// Give up after so long, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// Bytes a second at most, such as 20MB
    #[arg(long, visible_alias = "limit-rate", value_name = "SIZE", value_parser = scalar::size)]
    pub(crate) ratelimit: Option<u64>,

    #[command(flatten)]
    pub(crate) cluster: JobClusterArguments,

    /// Go without a daemon
    #[arg(long, conflicts_with_all = ["disable_back_source", "cluster"])]
    pub(crate) direct: bool,

    /// Take it from the daemon's store only, and fetch nothing
    #[arg(long)]
    pub(crate) disable_back_source: bool,

    /// Part of the name that a URL's content has in the daemon
    #[arg(long, value_name = "TEXT")]
    pub(crate) tag: Option<String>,

    /// Another part of it
    #[arg(long, value_name = "TEXT")]
    pub(crate) application: Option<String>,

    /// Query keys that are no part of it, such as 'Expires&Signature'
    #[arg(long, value_name = "KEYS")]
    pub(crate) filter: Option<String>,

    /// Priority in the daemon's log
    #[arg(short = 'P', long, value_name = "0-6", value_parser = clap::value_parser!(u8).range(0..=6))]
    pub(crate) priority: Option<u8>,

    /// Show a progress bar, as is done on every terminal
    #[arg(short = 'b', long)]
    pub(crate) show_progress: bool,

    /// Say what is decided, and why
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// Say nothing but warnings and errors
    #[arg(long, short, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) old: OldArguments,
}

/// Flags of 2.0.9 that mean nothing any more, or cannot be.
#[derive(Args, Debug)]
pub(crate) struct OldArguments {
    #[arg(long, hide = true)]
    console: bool,
    #[arg(long, hide = true, value_name = "FILE")]
    config: Option<OsString>,
    #[arg(long, hide = true, value_name = "PATH")]
    daemon_sock: Option<OsString>,
    #[arg(long, hide = true, value_name = "DIR")]
    workhome: Option<OsString>,
    #[arg(long, hide = true, value_name = "DIR")]
    logdir: Option<OsString>,
    #[arg(long, hide = true, value_name = "PORT", allow_negative_numbers = true)]
    pprof_port: Option<OsString>,
    #[arg(long, hide = true, value_name = "URL")]
    jaeger: Option<OsString>,
    #[arg(long, hide = true, value_name = "NAME")]
    service_name: Option<OsString>,
    #[arg(long, hide = true)]
    original_offset: bool,
    #[arg(long, short, hide = true)]
    recursive: bool,
    #[arg(long, hide = true, value_name = "NUMBER")]
    level: Option<OsString>,
    #[arg(long, short, hide = true)]
    list: bool,
    #[arg(long, hide = true, value_name = "REGEX")]
    accept_regex: Option<OsString>,
    #[arg(long, hide = true, value_name = "REGEX")]
    reject_regex: Option<OsString>,
}

/// How the end is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Form {
    /// By a line, on a terminal.
    #[default]
    Text,
    /// By one JSON object on standard output.
    Json,
}

/// Arguments without a command are those of `dfget get`.
pub(crate) fn with_command(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<_> = words.into_iter().collect();
    let means_get = words.get(1).is_some_and(|first| {
        let first = first.to_string_lossy();
        let own = ["-h", "--help", "-V", "--version", "--", "help"];
        let known = || Arguments::command().get_subcommands().any(|command| command.get_name() == first);
        // A word alone is rather a command that was mistyped.
        (first.starts_with('-') || first.contains(['/', '.', ':'])) && !own.contains(&&*first) && !known()
    });
    if means_get {
        words.insert(1, "get".into());
    }
    words
}

// === impl GetArguments ===

impl GetArguments {
    /// Which form was asked for, even if all else is wrong.
    pub(crate) fn form(&self) -> Form {
        if self.output.iter().any(|word| word == "json") { Form::Json } else { Form::Text }
    }

    /// What is to be done, and what the user should know of the flags.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn order(&self) -> Result<(Order, Vec<String>), String> {
        let warnings = self.old.judge()?;
        let url = self.url.as_deref().or(self.url_flag.as_deref()).unwrap_or_default();
        let reference =
            Reference::parse(url, self.plain_http).map_err(|error| self.not_a_url(url, &error))?;
        let (headers, ranged) = headers(&self.headers)?;
        let range = ranged.as_deref().or(self.range.as_deref()).map(scalar::range).transpose()?;
        let order = Order {
            reference,
            output: self.where_to()?,
            replace: self.force,
            digest: self.digest.as_deref().map(scalar::digest).transpose()?,
            headers,
            range,
            hints: Hints {
                // A digest clears the tag, as it always has.
                tag: self.tag.clone().filter(|_| self.digest.is_none()),
                application: self.application.clone(),
                filter: self.filter.clone(),
                priority: self.priority,
                stored_only: self.disable_back_source,
            },
            platform: self.platform.clone().unwrap_or_else(Platform::of_this_machine),
            login_file: self.authfile.clone(),
            rate: self.ratelimit.and_then(NonZeroU64::new),
            cluster: self.cluster()?,
            direct: self.direct,
            everything: false,
            verbose: self.verbose,
        };
        Ok((order, warnings))
    }

    fn cluster(&self) -> Result<Option<ClusterWish>, String> {
        let Some(wish) = self.cluster.wish() else { return Ok(None) };
        let checked = wish.check();
        checked.map_err(|error| {
            format!("--cluster: {error}; write it as 'node[001-128]' or \"$SLURM_JOB_NODELIST\"")
        })?;
        Ok(Some(wish))
    }

    fn where_to(&self) -> Result<Output, String> {
        let forms = [OsStr::new("json"), OsStr::new("text")];
        let files: Vec<_> = self.output.iter().filter(|word| !forms.contains(&word.as_os_str())).collect();
        let file = match (files.as_slice(), &self.file) {
            ([], file) => file.clone(),
            ([only], None) => Some(PathBuf::from(only)),
            _ => return Err("-O and --output name two files; give one".to_owned()),
        };
        match file {
            Some(file) if file.as_os_str() == "-" && self.form() == Form::Json => {
                Err("-O - and --output json both write to standard output; name a file by -O".to_owned())
            }
            Some(file) if file.as_os_str() == "-" => Ok(Output::Standard),
            Some(file) if file.as_os_str().is_empty() => Err("-O '' names no file".to_owned()),
            Some(file) => Ok(Output::Path(file)),
            None => Ok(Output::Named),
        }
    }

    /// Somebody may have put flags before a command.
    fn not_a_url(&self, url: &str, error: &dfget_get::ReferenceError) -> String {
        match Arguments::command().find_subcommand(url) {
            Some(command) => {
                format!("{url}: no URL; for the command, write `dfget {}` first", command.get_name())
            }
            None => error.to_string(),
        }
    }
}

/// The headers, and among them the range.
fn headers(lines: &[String]) -> Result<(HeaderMap, Option<String>), String> {
    let (mut headers, mut range) = (HeaderMap::new(), None);
    for line in lines {
        // What is wrong is not shown: it may be a credential.
        let wrong = || "-H is no header; write it as 'NAME: VALUE'".to_owned();
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let (name, value) = (name.trim(), value.trim());
        let known = HeaderName::try_from(name).map_err(|_| wrong())?;
        let mut sent =
            HeaderValue::try_from(value).map_err(|_| format!("-H {name}: a value that cannot be sent"))?;
        if value.is_empty() {
            return Err(format!("-H {name}: the value is missing"));
        }
        if known == http::header::RANGE {
            range = Some(value.to_owned());
        } else if [http::header::HOST, http::header::CONTENT_LENGTH, http::header::TRANSFER_ENCODING]
            .contains(&known)
        {
            return Err(format!("-H {name}: this header is made by dfget itself"));
        } else {
            sent.set_sensitive(true);
            headers.insert(known, sent);
        }
    }
    Ok((headers, range))
}

// === impl OldArguments ===

impl OldArguments {
    /// Warnings for what is without meaning now.
    ///
    /// # Errors
    /// For what would make something else of the download than was asked for.
    fn judge(&self) -> Result<Vec<String>, String> {
        let lists = [
            ("--recursive", self.recursive),
            ("--list", self.list),
            ("--level", self.level.is_some()),
            ("--accept-regex", self.accept_regex.is_some()),
            ("--reject-regex", self.reject_regex.is_some()),
        ];
        if let Some((flag, _)) = lists.iter().find(|(_, set)| *set) {
            return Err(format!(
                "{flag}: web servers and registries have no directories to be listed, nor had they for 2.0.9; call \
                 dfget for each file, such as by `xargs -n1 -P4 dfget < urls`"
            ));
        }
        if self.original_offset {
            return Err(
                "--original-offset is not supported; get the --range into a file of its own, and put it in \
                        place by `dd conv=notrunc seek=…`"
                    .to_owned(),
            );
        }
        let without = [
            ("--console", self.console),
            ("--config", self.config.is_some()),
            ("--daemon-sock", self.daemon_sock.is_some()),
            ("--workhome", self.workhome.is_some()),
            ("--logdir", self.logdir.is_some()),
            ("--pprof-port", self.pprof_port.is_some()),
            ("--jaeger", self.jaeger.is_some()),
            ("--service-name", self.service_name.is_some()),
        ];
        let set: Vec<_> = without.iter().filter(|(_, set)| *set).map(|(flag, _)| *flag).collect();
        if set.is_empty() {
            return Ok(Vec::new());
        }
        let (verb, whose) = if set.len() == 1 { ("has", "it") } else { ("have", "them") };
        Ok(vec![format!("{} {verb} no meaning any more; leave {whose} out", set.join(", "))])
    }
}

const EXAMPLES: &str = "\
Examples:
  dfget https://files.example.org/data.tar
  dfget oras://registry.example.org/project/image:1 -O image.sif
  dfget docker://ghcr.io/project/image:1 -O image      (an OCI layout)
  dfget docker://ghcr.io/project/image:1 -O image.tar  (the same in one file)
  dfget get --digest sha256:4413… --output json https://files.example.org/x
  srun --ntasks-per-node=1 dfget --cluster \"$SLURM_JOB_NODELIST\" -O /tmp/x.sif \\
    oras://registry.example.org/project/image:1

The way is through a daemon of this node, which is started if there is none, as
`dfget run` does it; if none can be had, directly. What is broken off is kept
beside the file, and the same command goes on with it. Logins are those of
`apptainer registry login`, `docker login` and $REGISTRY_AUTH_FILE.

Exit status: 0 done, 2 wrong command line, 75 try again later, 77 not allowed,
78 a file of logins cannot be used, 124 --timeout is over, 130 interrupted,
1 anything else.";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::Command;

    fn parsed(line: &str) -> GetArguments {
        let words = with_command(line.split(' ').map(OsString::from));
        match Arguments::try_parse_from(words).map(|arguments| arguments.command) {
            Ok(Command::Get(arguments)) => *arguments,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn order(line: &str) -> Result<Order, String> {
        parsed(line).order().map(|(order, _)| order)
    }

    #[test]
    fn get_need_not_be_said() {
        for line in [
            "dfget get https://h/x",
            "dfget https://h/x",
            "dfget -u https://h/x",
            "dfget --url=https://h/x",
            "dfget -O x https://h/x",
            "dfget https://h/x -O x",
            "dfget --output x --verbose https://h/x",
        ] {
            assert_eq!(order(line).unwrap().reference.to_string(), "https://h/x", "{line}");
        }
        for line in ["dfget daemon", "dfget --help", "dfget", "dfget deamon", "dfget --version"] {
            let words: Vec<_> = line.split(' ').map(OsString::from).collect();
            assert_eq!(with_command(words.clone()), words, "{line}");
        }
        assert!(order("dfget --verbose daemon").unwrap_err().contains("write `dfget daemon` first"));
        assert!(order("dfget registry.example/x").unwrap_err().contains("write it as https://…"));
    }

    #[test]
    fn the_output_is_a_file_or_a_form() {
        let where_to = |flags: &str| order(&format!("dfget {flags} https://h/x")).map(|order| order.output);
        let file = |name: &str| Ok(Output::Path(name.into()));
        assert_eq!(where_to("-O a"), file("a"));
        assert_eq!(where_to("--output a"), file("a"));
        assert_eq!(where_to("-O json"), file("json"));
        assert_eq!(where_to("--output ./json"), file("./json"));
        assert_eq!(where_to("--output json --output a"), file("a"));
        assert_eq!(where_to("--output json"), Ok(Output::Named));
        assert_eq!(where_to("-O -"), Ok(Output::Standard));
        assert_eq!(parsed("dfget --output json -O a https://h/x").form(), Form::Json);
        assert!(where_to("-O a --output b").unwrap_err().contains("two files"));
        assert!(where_to("-O - --output json").unwrap_err().contains("standard output"));
    }

    #[test]
    fn flags_of_2_0_9_are_known() {
        let all = "dfget https://h/x -O y --timeout 10 --ratelimit 1.0GB --tag t --application a --filter a&b -P 3 \
                   --range 0-9 --disable-back-source -b --daemon-sock /s --workhome /w --logdir /l --console \
                   --pprof-port -1 --jaeger http://j --service-name n";
        let (order, warnings) = parsed(all).order().unwrap();
        assert_eq!((order.rate.unwrap().get(), parsed(all).timeout.unwrap().as_secs()), (1 << 30, 10));
        assert_eq!((order.hints.tag.as_deref(), order.hints.priority), (Some("t"), Some(3)));
        assert!(order.hints.stored_only);
        assert_eq!(
            warnings,
            [
                "--console, --daemon-sock, --workhome, --logdir, --pprof-port, --jaeger, --service-name have no meaning \
              any more; leave them out"
            ]
        );
        for flag in ["-r", "-l", "--level 3", "--accept-regex x", "--original-offset"] {
            let told = parsed(&format!("dfget {flag} https://h/x")).order().unwrap_err();
            assert!(told.contains("call dfget for each file") || told.contains("dd conv=notrunc"), "{told}");
        }
        let digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let (order, _) = parsed(&format!("dfget https://h/x --digest {digest} --tag t")).order().unwrap();
        assert_eq!((order.digest.unwrap().to_string().as_str(), order.hints.tag), (digest, None));
    }

    #[test]
    fn a_header_is_sent_and_never_shown() {
        let of = |lines: &[&str]| headers(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        let (found, range) =
            of(&["Authorization: Bearer canary", "X-A:1", "x-a: 2", "Range: bytes=0-1"]).unwrap();
        assert_eq!(
            (found.len(), found["x-a"].to_str().unwrap(), range.as_deref()),
            (2, "2", Some("bytes=0-1"))
        );
        assert!(!format!("{found:?}").contains("canary"));
        for wrong in ["canary", ": canary", "a b: canary", "A: canary\u{7}", "A:", "Host: canary"] {
            let told = of(&[wrong]).unwrap_err();
            assert!(told.starts_with("-H") && !told.contains("canary"), "{told}");
        }
    }

    #[test]
    fn an_unknown_flag_is_answered_by_the_nearest() {
        let words = ["dfget", "--diegst", "x", "https://h/x"].map(OsString::from);
        let told = Arguments::try_parse_from(with_command(words)).unwrap_err().to_string();
        assert!(told.contains("--digest"), "{told}");
    }
}
