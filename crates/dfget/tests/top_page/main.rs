//! The web page in a real Chromium: what it shows, to whom, and that everybody can use it.

mod checks;

use std::process::Command;
use std::time::{Duration, Instant};

use dfget_testkit::{Blob, Browser, Gate, Request, Stage, Tab};
use serde_json::{Value, json};

use self::checks::{DESK, PHONE, assert_for_everybody, assert_keeps_to_itself, focused, picture};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const MIB: usize = 1 << 20;
/// Only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The page's address with its token, as the command prints it.
fn address(stage: &Stage) -> String {
    let home = stage.daemon.home();
    let mut command = Command::new(DFGET);
    command.args(["top", "--web"]).env_clear().env("HOME", home);
    let output = command.env("DFGET_SYSTEM_SOCKET", home.join("lease.sock")).output().expect("it starts");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// A daemon with something of everything: a download under way, one that ended, savings, a warning.
fn busy() -> (Stage, Gate, std::thread::JoinHandle<()>) {
    let stage = Stage::new(DFGET);
    let done = stage.registry.put("lab/done", &Blob::random(3 * MIB, 1));
    for _ in 0..3 {
        assert_eq!(stage.get(&done).status, 200);
    }
    let other = Blob::random(MIB, 2);
    let wrong = stage.registry.put_as("lab/wrong", &format!("sha256:{}", "1".repeat(64)), &other.bytes);
    assert_ne!(stage.get(&wrong).body, other.bytes[..]);
    // It is fetched once more before it is given up, and must not be taken for the next one.
    stage.daemon.wait_for_log("peer task failed");
    // Too short to be fetched by several ranges at once, which would go round the gate.
    let (blob, gate) = (Blob::random(8 * MIB, 3), Gate::new());
    let (held, url) = (gate.clone(), stage.registry.put("lab/under-way", &blob));
    stage.registry.next_blob(move |answer| answer.hold_after(5 * MIB as u64, &held).into());
    let client = stage.client();
    let pull = std::thread::spawn(move || {
        assert!(client.fetch(&Request::get(&url)).expect("an answer").body == blob.bytes[..]);
    });
    (stage, gate, pull)
}

#[test]
fn the_page_shows_what_happens_to_everybody() {
    let (stage, gate, pull) = busy();
    let address = address(&stage);
    let mut tab = Browser::start().tab(DESK.0, DESK.1, false);
    tab.open(&address);
    tab.wait_for("document.querySelector('[role=progressbar]')?.getAttribute('aria-valuenow') === '62'");
    let text = tab.text();
    for words in [
        "lab/under-way@",
        "Downloads (1)",
        "lab/done@",
        "6.0 MiB and 2 requests were not asked",
        "belongs to no cluster",
        "Warning: ",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    assert_eq!(tab.value("location.href"), format!("{}/", address.split("/#").next().expect("a host")));
    for (dark, name) in [(false, "light"), (true, "dark")] {
        tab.prefer(dark, false);
        for ((width, height), phone, size) in [(DESK, false, "desk"), (PHONE, true, "phone")] {
            tab.resize(width, height, phone);
            tab.wait_for(&format!("document.querySelector('#rates svg').viewBox.baseVal.width < {width}"));
            assert_for_everybody(&mut tab);
            picture(&mut tab, &format!("page-{size}-{name}"));
        }
    }
    // What has ended moves to the list, and is told once to those who listen.
    gate.open();
    pull.join().expect("the pull ends well");
    tab.wait_for("document.querySelector('#ended').textContent.includes('lab/under-way@')");
    tab.wait_for("document.querySelectorAll('.task').length === 0");
    tab.wait_for("document.getElementById('told').textContent.includes('is here')");
    assert_keeps_to_itself(&tab, &address);
}

#[test]
fn all_of_it_is_reached_by_the_keyboard() {
    let (stage, gate, pull) = busy();
    let address = address(&stage);
    let mut tab = Browser::start().tab(DESK.0, DESK.1, false);
    tab.open(&address);
    tab.wait_for("!document.getElementById('main').hidden");
    let mut reached = Vec::new();
    for _ in 0..12 {
        tab.press("Tab", 9);
        reached.push(focused(&mut tab));
    }
    assert_eq!(reached[..2], ["Skip to the downloads", "pause"], "{reached:?}");
    for place in [
        "Who feeds whom, as a table",
        "The last five minutes, as a table",
        "What each registry was asked and spared",
    ] {
        assert!(reached.iter().any(|one| one == place), "{place} in {reached:?}");
    }
    // What is open, and where the focus is, stays while the page is brought up to date.
    tab.value("document.querySelectorAll('summary')[1].focus()");
    tab.press("Enter", 13);
    tab.wait_for("document.querySelectorAll('details')[1].open");
    tab.wait_for("document.querySelector('#rates-table tbody tr td')");
    assert_eq!(focused(&mut tab), "The last five minutes, as a table");
    tab.wait_for("document.querySelectorAll('.task').length === 1");
    tab.value("document.getElementById('pause').focus()");
    tab.press("Enter", 13);
    tab.wait_for("document.getElementById('pause').getAttribute('aria-pressed') === 'true'");
    tab.wait_for("document.getElementById('state').textContent === 'Paused.'");
    gate.open();
    pull.join().expect("the pull ends well");
    assert_eq!(tab.value("document.querySelectorAll('.task').length"), 1, "it is paused");
    tab.press("Enter", 13);
    tab.wait_for("document.querySelectorAll('.task').length === 0");
    assert_keeps_to_itself(&tab, &address);
}

#[test]
fn nothing_is_shown_without_the_token_of_this_very_daemon() {
    let mut stage = Stage::new(DFGET);
    let address = address(&stage);
    let (place, token) = address.split_once("#token=").expect("a token");
    let mut tab = Browser::start().tab(DESK.0, DESK.1, false);
    for wrong in [place.to_owned(), format!("{place}#token={}", "0".repeat(token.len()))] {
        tab.open(&wrong);
        tab.wait_for("document.getElementById('state').textContent.includes('dfget top --web')");
        assert_eq!(tab.value("document.getElementById('main').hidden"), true);
    }
    tab.open("about:blank");
    tab.open(&address);
    tab.wait_for("!document.getElementById('main').hidden");
    // Loaded anew in the same tab it goes on; in the storage of the tab alone there is the token.
    tab.call("Page.reload", &json!({}));
    tab.wait_for("document.getElementById('state').textContent === 'Live.'");
    assert_eq!(tab.value("document.cookie + localStorage.length"), "0");
    stage.daemon.stop();
    tab.wait_for("document.getElementById('state').textContent.includes('does not answer')");
}

#[test]
fn pictures_stand_still_for_those_who_want_that() {
    let (stage, gate, pull) = busy();
    let mut tab = Browser::start().tab(DESK.0, DESK.1, false);
    tab.prefer(false, true);
    tab.open(&address(&stage));
    tab.wait_for("document.querySelector('#feeds path')");
    assert_eq!(tab.value("document.getAnimations().length"), 0);
    gate.open();
    pull.join().expect("the pull ends well");
}

/// A daemon through which so many small contents came.
fn with_pulls(number: u64) -> Stage {
    let stage = Stage::new(DFGET);
    for number in 0..number {
        let url = stage.registry.put(&format!("lab/part-{number}"), &Blob::random(1000, 40 + number));
        assert_eq!(stage.get(&url).status, 200);
    }
    stage
}

#[test]
fn what_is_long_shows_its_beginning_until_all_is_asked_for() {
    // More than the page asks for before.
    let stage = with_pulls(15);
    let mut tab = Browser::start().tab(PHONE.0, PHONE.1, true);
    tab.open(&address(&stage));
    tab.wait_for("document.querySelectorAll('#ended li').length === 5");
    let button = |tab: &mut Tab| {
        tab.value("(() => { const one = document.getElementById('ended-more'); return [one.textContent, one.ariaExpanded]; })()")
    };
    assert_eq!(button(&mut tab), json!(["Show all", "false"]));
    assert_eq!(tab.value("document.getElementById('saved-more').hidden"), true, "there is one registry");
    tab.value("document.getElementById('ended-more').focus()");
    tab.press("Enter", 13);
    tab.wait_for("document.querySelectorAll('#ended li').length === 15");
    assert_for_everybody(&mut tab);
    // The next answers of the daemon change nothing of that, and take the focus from nobody.
    let asked = tab.asked().len();
    until(|| tab.value("1") == 1 && tab.asked().len() > asked + 1);
    assert_eq!(button(&mut tab), json!(["Show fewer", "true"]));
    assert_eq!(focused(&mut tab), "ended-more");
    tab.press("Enter", 13);
    tab.wait_for("document.querySelectorAll('#ended li').length === 5");
}

/// Looks until it is so.
fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it never came to be");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn on_a_phone_each_figure_of_a_table_has_its_heading() {
    let stage = with_pulls(1);
    let mut tab = Browser::start().tab(PHONE.0, PHONE.1, true);
    tab.open(&address(&stage));
    tab.wait_for("document.querySelector('#saved tbody td')");
    let heading = "getComputedStyle(document.querySelector('#saved tbody td'), '::before').content";
    assert_eq!(tab.value(heading), "\"Bytes it sent\"");
    assert_eq!(
        tab.value("document.getElementById('saved').getBoundingClientRect().right <= innerWidth"),
        true
    );
    let tree = tab.call("Accessibility.getFullAXTree", &json!({}));
    let is = |node: &&Value, role: &str| node["role"]["value"] == role && node["ignored"] != true;
    let count = |role| tree["nodes"].as_array().expect("a tree").iter().filter(|node| is(node, role)).count();
    assert!(count("table") >= 1 && count("row") >= 2 && count("cell") >= 5, "it is a table all the same");
    assert!(count("columnheader") >= 6 && count("rowheader") >= 1);
    tab.resize(DESK.0, DESK.1, false);
    tab.wait_for(&format!("{heading} === 'none'"));
}
