//! A terminal taken over for a while: its other screen, keys as they are pressed, and everything as it was at the end.
//!
//! The end may be a key, a signal, an error or a panic. What is asked of the terminal are the sequences that all have
//! in common (ECMA-48 and those of xterm); one that knows less ignores them.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Once};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// The other screen, no cursor, no wrapping of lines.
const BEGIN: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l";

/// All of that undone, and no colour left.
const END: &str = "\u{1b}[0m\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";

/// A picture is shown when it is whole, by terminals that know of it.
const BEGIN_PICTURE: &str = "\u{1b}[?2026h\u{1b}[H";
const END_PICTURE: &str = "\u{1b}[J\u{1b}[?2026l";

/// The room where none is known.
const USUAL: Room = Room { columns: 80, rows: 24 };

/// Room on a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Room {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// What somebody wants who presses a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Key {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Pause,
}

/// The terminal, until it is dropped.
#[derive(Debug)]
pub(super) struct Terminal {
    keys: File,
}

/// How the terminal was, for whoever puts it in order first.
static BEFORE: Mutex<Option<(Arc<File>, Termios)>> = Mutex::new(None);

// === impl Room ===

impl Room {
    /// That of standard output.
    pub(super) fn of_output() -> Self {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                Self { columns: size.ws_col.into(), rows: size.ws_row.into() }
            }
            _ => USUAL,
        }
    }
}

// === impl Terminal ===

impl Terminal {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// There is none to read keys from, or it cannot be set.
    pub(super) fn take() -> io::Result<Self> {
        let keys = if io::stdin().is_terminal() {
            File::from(io::stdin().as_fd().try_clone_to_owned()?)
        } else {
            File::options().read(true).write(true).open("/dev/tty")?
        };
        let before = tcgetattr(&keys)?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock() = Some((Arc::new(keys.try_clone()?), before));
        restore_on_panic();
        let terminal = Self { keys };
        tcsetattr(&terminal.keys, OptionalActions::Flush, &raw)?;
        write(BEGIN)?;
        Ok(terminal)
    }

    /// Shows these lines and nothing else.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut picture = String::from(BEGIN_PICTURE);
        for (row, line) in lines.iter().enumerate() {
            picture.push_str(if row == 0 { "" } else { "\r\n" });
            picture.push_str(line);
            picture.push_str("\u{1b}[K");
        }
        picture.push_str(END_PICTURE);
        write(&picture)
    }

    /// The keys that are pressed within `patience`; none if that is over.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn keys(&self, patience: Duration) -> io::Result<Vec<Key>> {
        let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.keys, PollFlags::IN)], Some(&patience)) {
            Ok(0) | Err(Errno::INTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0; 64];
        match rustix::io::read(&self.keys, &mut bytes) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => Ok(meant(bytes.get(..read).unwrap_or_default())),
            Err(Errno::INTR | Errno::AGAIN) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal in order, once.
fn restore() {
    if let Some((terminal, before)) = BEFORE.lock().take() {
        let _ = write(END);
        let _ = tcsetattr(&*terminal, OptionalActions::Flush, &before);
    }
}

/// What a panic says is to be read on the terminal as it was.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            usual(panic);
        }));
    });
}

fn write(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// What bytes of a terminal mean. In raw mode Ctrl-C and Ctrl-D are bytes, too.
fn meant(mut bytes: &[u8]) -> Vec<Key> {
    const SEQUENCES: [(&[u8], Key); 12] = [
        (b"\x1b[A", Key::Up),
        (b"\x1b[B", Key::Down),
        (b"\x1bOA", Key::Up),
        (b"\x1bOB", Key::Down),
        (b"\x1b[5~", Key::PageUp),
        (b"\x1b[6~", Key::PageDown),
        (b"\x1b[H", Key::First),
        (b"\x1b[F", Key::Last),
        (b"\x1bOH", Key::First),
        (b"\x1bOF", Key::Last),
        (b"\x1b[1~", Key::First),
        (b"\x1b[4~", Key::Last),
    ];
    let mut keys = Vec::new();
    while let Some(&first) = bytes.first() {
        let known = SEQUENCES.iter().find(|(sequence, _)| bytes.starts_with(sequence));
        let (key, length) = match (known, first) {
            (Some((sequence, key)), _) => (Some(*key), sequence.len()),
            // Of a sequence that means nothing here, no byte is a key of its own.
            (None, b'\x1b') => (None, bytes.len()),
            (None, b'q' | b'Q' | 3 | 4) => (Some(Key::Quit), 1),
            (None, b'k') => (Some(Key::Up), 1),
            (None, b'j') => (Some(Key::Down), 1),
            (None, b'g') => (Some(Key::First), 1),
            (None, b'G') => (Some(Key::Last), 1),
            (None, b'p' | b'P' | b' ') => (Some(Key::Pause), 1),
            (None, _) => (None, 1),
        };
        keys.extend(key);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_is_usual() {
        let cases: [(&[u8], &[Key]); 8] = [
            (b"q", &[Key::Quit]),
            (b"\x03", &[Key::Quit]),
            (b"\x1b[A\x1b[B\x1bOB", &[Key::Up, Key::Down, Key::Down]),
            (b"\x1b[5~\x1b[6~", &[Key::PageUp, Key::PageDown]),
            (b"gGpx", &[Key::First, Key::Last, Key::Pause]),
            (b"\x1b[1;5Q", &[]),
            (b"\x1b", &[]),
            (b"", &[]),
        ];
        for (bytes, keys) in cases {
            assert_eq!(meant(bytes), keys, "{bytes:?}");
        }
    }
}
