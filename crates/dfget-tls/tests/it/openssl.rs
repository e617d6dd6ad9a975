//! A directory to make keys and certificates in, with the `openssl` command.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use dfget_tls::{CaError, CertificateAuthority};
use tempfile::TempDir;

/// Extensions for [`Workshop::authority`] as a plain CA has them.
pub(crate) const PLAIN_CA: &str = "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n\
                                   subjectKeyIdentifier = hash\n";

/// A directory that ends with the test.
pub(crate) struct Workshop(TempDir);

impl Workshop {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// A workshop with a P-256 CA in `ca.crt` and `ca.key`, the quickest kind.
    pub(crate) fn with_authority() -> Self {
        let workshop = Self::new();
        workshop.ec_key("ca.key");
        workshop.authority(PLAIN_CA);
        workshop
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect(name);
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect(name)
    }

    /// Runs `openssl` with the words of `arguments` in the directory; it must succeed.
    pub(crate) fn openssl(&self, arguments: &str) -> String {
        self.openssl_typing(arguments, "")
    }

    /// The same, typing `input` at the prompts.
    pub(crate) fn openssl_typing(&self, arguments: &str, input: &str) -> String {
        let output = self.try_openssl(arguments, input);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "openssl {arguments}: {out}{err}");
        out.into_owned()
    }

    fn try_openssl(&self, arguments: &str, input: &str) -> Output {
        let mut child = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the openssl command is needed for this test: apt-get install openssl");
        // A child that asks nothing closes its end: not an error.
        let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        child.wait_with_output().expect("openssl runs")
    }

    pub(crate) fn ec_key(&self, name: &str) {
        self.openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}"));
    }

    /// A self-signed `ca.crt` of `ca.key` with these extensions, valid for 30 days.
    pub(crate) fn authority(&self, extensions: &str) {
        self.self_signed("ca", "/CN=Test-CA", extensions, "");
    }

    /// A self-signed `NAME.crt` of `NAME.key`.
    pub(crate) fn self_signed(&self, name: &str, subject: &str, extensions: &str, options: &str) {
        self.write("x509.conf", format!("[req]\ndistinguished_name = dn\n[dn]\n[v3]\n{extensions}"));
        self.openssl(&format!(
            "req -x509 -new -config x509.conf -extensions v3 -key {name}.key -subj {subject} -days 30 \
             -out {name}.crt {options}"
        ));
    }

    /// A new P-256 `NAME.key` and its `NAME.crt`, signed by `ISSUER.crt`.
    pub(crate) fn signed_by(&self, issuer: &str, name: &str, extensions: &str) {
        self.ec_key(&format!("{name}.key"));
        self.write("x509.conf", format!("[req]\ndistinguished_name = dn\n[dn]\n[v3]\n{extensions}"));
        self.openssl(&format!("req -new -config x509.conf -key {name}.key -subj /CN={name} -out {name}.csr"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {issuer}.crt -CAkey {issuer}.key -CAcreateserial -days 30 \
             -extfile x509.conf -extensions v3 -out {name}.crt"
        ));
    }

    /// `ca.crt` with `ca.key`, loaded now.
    pub(crate) fn load(&self) -> Result<CertificateAuthority, CaError> {
        CertificateAuthority::load(&self.read("ca.crt"), &self.read("ca.key"), SystemTime::now())
    }
}
