//! Whether the authority that signs for hijacked hosts is there, and good now.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use dfget_config::{Environment, HijackAuthority, Loaded, PemSource};
use dfget_tls::AuthorityCertificate;

use crate::finding::{Area, Finding, Verdict};

/// It is replaced in good time.
const SOON: Duration = Duration::from_hours(30 * 24);

/// Our own authority.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) certificate: AuthorityCertificate,
    /// Where it lies, if not in the configuration itself.
    pub(crate) file: Option<PathBuf>,
}

/// What is to be said of it; and it, if it can be read.
pub(crate) fn findings(
    loaded: &Loaded,
    environment: &Environment,
    now: SystemTime,
) -> (Vec<Finding>, Option<Ours>) {
    let Some(hijack) = &loaded.config.proxy.hijack else { return (Vec::new(), None) };
    let own = match &hijack.authority {
        HijackAuthority::Named { cert: PemSource::Inline(text), .. } => {
            AuthorityCertificate::from_pem(text.expose().as_bytes())
                .map(|certificate| Ours { certificate, file: None })
                .map_err(|error| format!("hijackHTTPS.cert: {error}"))
        }
        HijackAuthority::Named { cert: PemSource::File(file), .. } => read(file.clone()),
        HijackAuthority::Own(own) if environment.files.mode(&own.cert).is_err() => {
            let finding = Finding::new(
                Area::Authority,
                Verdict::Note,
                format!("there is no {} yet; the daemon makes it when it starts", own.cert.display()),
                "`dfget ca create` makes it now",
            );
            return (vec![finding], None);
        }
        HijackAuthority::Own(own) => read(own.cert.clone()),
    };
    match own {
        Ok(own) => (vec![judge(&own, now)], Some(own)),
        Err(error) => {
            let remedy = "`dfget ca create` makes a new one";
            (vec![Finding::new(Area::Authority, Verdict::Bad, error, remedy)], None)
        }
    }
}

fn read(file: PathBuf) -> Result<Ours, String> {
    let certificate = AuthorityCertificate::read(&file).map_err(|error| error.to_string())?;
    Ok(Ours { certificate, file: Some(file) })
}

fn judge(own: &Ours, now: SystemTime) -> Finding {
    let Ours { certificate, file } = own;
    let name = file.as_ref().map_or_else(|| "hijackHTTPS.cert".to_owned(), |file| file.display().to_string());
    if certificate.is_expired(now) {
        return Finding::new(
            Area::Authority,
            Verdict::Bad,
            format!("{name} has expired ({})", certificate.not_after_text()),
            "`dfget ca rotate` makes another; look at this node's clock, too",
        );
    }
    if certificate.not_before() > now {
        return Finding::new(
            Area::Authority,
            Verdict::Bad,
            format!("{name} is good only from {} on", certificate.not_before_text()),
            "set this node's clock (`timedatectl`), or make another by `dfget ca rotate`",
        );
    }
    if certificate.not_after() < now + SOON {
        return Finding::new(
            Area::Authority,
            Verdict::Warning,
            format!("{name} expires soon ({})", certificate.not_after_text()),
            "`dfget ca rotate`",
        );
    }
    Finding::good(Area::Authority, format!("{name}, for {}", certificate.scope()))
}
