//! The view that goes on until somebody leaves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use dfget_console::Live;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::screen::{Colours, lines, to_text};
use super::terminal::{Key, Room, Terminal};
use super::words::cut;
use super::{Failure, LIVE, colours};
use crate::api::{Client, NoDaemon};

/// How often the daemon is asked.
const EVERY: Duration = Duration::from_secs(1);

/// How long a key, a signal or another size of the window may wait.
const LOOK: Duration = Duration::from_millis(100);

/// What is shown, and from which line on.
struct View {
    live: Option<Live>,
    trouble: Option<String>,
    first: usize,
    paused: bool,
    colours: Colours,
}

/// Shows what the daemon that `find` finds tells, until somebody leaves.
///
/// # Errors
/// There is no daemon at first, or no terminal.
pub(super) fn run(find: fn() -> Result<Client, NoDaemon>) -> Result<(), Failure> {
    let mut client = find()?;
    let first = client.get(LIVE)?;
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(Failure::Terminal)?;
    }
    let (sender, news) = sync_channel(1);
    // It ends with this process, or with the receiver.
    let asking = thread::Builder::new().name("asking".to_owned());
    asking.spawn(move || ask_on(client, find, &sender)).map_err(Failure::Terminal)?;
    let view = View { live: Some(first), trouble: None, first: 0, paused: false, colours: colours() };
    show(view, &news, &ended)
}

fn show(mut view: View, news: &Receiver<Result<Live, String>>, ended: &AtomicBool) -> Result<(), Failure> {
    let terminal = Terminal::take().map_err(Failure::Terminal)?;
    let (mut room, mut changed) = (Room::of_output(), true);
    while !ended.load(Ordering::Relaxed) {
        match news.try_recv() {
            Ok(told) if !view.paused => {
                view.take(told);
                changed = true;
            }
            Ok(_) | Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        let now = Room::of_output();
        changed |= room != now;
        room = now;
        if changed {
            terminal.draw(&view.picture(room)).map_err(Failure::Terminal)?;
        }
        let keys = terminal.keys(LOOK).map_err(Failure::Terminal)?;
        changed = !keys.is_empty();
        for key in keys {
            if key == Key::Quit {
                return Ok(());
            }
            view.press(key, room);
        }
    }
    Ok(())
}

/// Asks once a second; where the daemon has gone, looks for the next.
fn ask_on(client: Client, find: fn() -> Result<Client, NoDaemon>, news: &SyncSender<Result<Live, String>>) {
    let mut client = Some(client);
    loop {
        thread::sleep(EVERY);
        let asked = Instant::now();
        let told = match client.take().map_or_else(find, Ok) {
            Ok(mut found) => {
                let told = found.get::<Live>(LIVE).map_err(|error| error.to_string());
                client = told.is_ok().then_some(found);
                told
            }
            Err(error) => Err(error.to_string()),
        };
        if news.send(told).is_err() {
            return;
        }
        // A slow daemon is not asked more for it.
        thread::sleep(asked.elapsed().min(EVERY));
    }
}

// === impl View ===

impl View {
    fn take(&mut self, told: Result<Live, String>) {
        match told {
            Ok(live) => (self.live, self.trouble) = (Some(live), None),
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    fn press(&mut self, key: Key, room: Room) {
        let page = rows_of_content(room).max(1);
        match key {
            Key::Up => self.first = self.first.saturating_sub(1),
            Key::Down => self.first += 1,
            Key::PageUp => self.first = self.first.saturating_sub(page),
            Key::PageDown => self.first += page,
            Key::First => self.first = 0,
            Key::Last => self.first = usize::MAX,
            Key::Pause => self.paused = !self.paused,
            Key::Quit => {}
        }
    }

    /// The lines of the whole screen; also finds out how far down there is something.
    fn picture(&mut self, room: Room) -> Vec<String> {
        let all = self.live.as_ref().map(|live| lines(live, room.columns)).unwrap_or_default();
        let rows = rows_of_content(room);
        self.first = self.first.min(all.len().saturating_sub(rows));
        let shown = all.iter().skip(self.first).take(rows);
        let mut picture: Vec<String> = shown.map(|line| to_text(line, self.colours)).collect();
        if room.rows > 1 {
            picture.resize(rows, String::new());
        }
        picture.push(self.status(all.len(), rows, room.columns));
        picture
    }

    fn status(&self, all: usize, rows: usize, columns: usize) -> String {
        let place = if all > rows { format!("  line {} of {all}", self.first + 1) } else { String::new() };
        let state = match (&self.trouble, self.paused) {
            (Some(trouble), _) => format!("asking again: {trouble}"),
            (None, true) => "paused".to_owned(),
            (None, false) => "live".to_owned(),
        };
        let text = cut(&format!("q quit  ↑↓ scroll  space pause  {state}{place}"), columns);
        match self.colours {
            Colours::Ansi => format!("\u{1b}[7m{text}\u{1b}[0m"),
            Colours::None => text,
        }
    }
}

/// All but the last row.
fn rows_of_content(room: Room) -> usize {
    room.rows.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let live = Live { host: "n1".to_owned(), ..Live::default() };
        View { live: Some(live), trouble: None, first: 0, paused: false, colours: Colours::None }
    }

    const ROOM: Room = Room { columns: 80, rows: 6 };

    #[test]
    fn a_picture_fills_the_screen_and_no_more() {
        for rows in 1..40 {
            let picture = view().picture(Room { columns: 80, rows });
            assert_eq!(picture.len(), rows, "{picture:?}");
            assert!(picture.last().is_some_and(|line| line.starts_with("q quit")), "{picture:?}");
        }
    }

    #[test]
    fn keys_scroll_as_far_as_there_is_something() {
        let mut view = view();
        let top = view.picture(ROOM);
        assert!(top[0].starts_with("dfget"), "{top:?}");
        for (key, first) in [
            (Key::Up, 0),
            (Key::Down, 1),
            (Key::Down, 2),
            (Key::Up, 1),
            (Key::PageDown, 6),
            (Key::PageDown, 6),
            (Key::PageUp, 1),
            (Key::Last, 6),
            (Key::First, 0),
        ] {
            view.press(key, ROOM);
            view.picture(ROOM);
            assert_eq!(view.first, first, "{key:?}");
        }
    }

    #[test]
    fn a_daemon_that_is_gone_is_said_and_what_it_told_last_stays() {
        let mut view = view();
        view.take(Err("no daemon runs".to_owned()));
        let picture = view.picture(ROOM);
        assert!(
            picture[0].starts_with("dfget") && picture[5].contains("asking again: no daemon runs"),
            "{picture:?}"
        );
        view.take(Ok(Live::default()));
        assert!(view.picture(ROOM)[5].contains("pause  live"));
        view.press(Key::Pause, ROOM);
        assert!(view.picture(ROOM)[5].contains("pause  paused"));
    }
}
