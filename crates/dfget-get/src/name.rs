//! Names of files: what an output is called where nobody says it, and what is beside it meanwhile.

use dfget_core::Digest;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::reference::Image;

/// The longest name that file systems take, in bytes.
const LONGEST: usize = 255;

/// The last segment of the path, if that can be the name of a file.
pub(crate) fn of_url(url: &Url) -> Option<String> {
    let last = url.path().rsplit('/').next()?;
    plain(&percent_decode_str(last).decode_utf8().ok()?)
}

/// `repository_tag`, as apptainer calls what it pulls; with the suffix.
pub(crate) fn of_image(image: &Image, suffix: &str) -> String {
    let last = image.repository.rsplit('/').next().unwrap_or("image");
    let version = match (&image.tag, &image.digest) {
        (Some(tag), _) => tag.clone(),
        (None, Some(digest)) => digest.hex().chars().take(12).collect(),
        (None, None) => "latest".to_owned(),
    };
    format!("{last}_{version}{suffix}")
}

/// A name that somebody else has chosen, if it is one of a plain file: it leads to no other directory,
/// hides nothing and is no flag.
pub(crate) fn plain(name: &str) -> Option<String> {
    let good = !name.is_empty()
        && name.len() <= LONGEST - 60
        && !name.starts_with(['.', '-', ' '])
        && !name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | '\u{200e}'..='\u{202e}'));
    good.then(|| name.to_owned())
}

/// The name of the unfinished file beside `target`. `key` tells what content it is a part of.
pub(crate) fn part(target: &str, key: &str) -> String {
    let (start, end) = part_frame(target);
    format!("{start}{key}{end}")
}

/// Whether `name` is that of an unfinished file for `target`, of whatever content.
pub(crate) fn is_part_of(name: &str, target: &str) -> bool {
    let (start, end) = part_frame(target);
    name.strip_prefix(&start)
        .and_then(|rest| rest.strip_suffix(end))
        .is_some_and(|key| key.len() == KEY && key.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A short name for what is meant: equal texts have equal ones.
pub(crate) fn key(meant: &str) -> String {
    Digest::sha256(meant.as_bytes()).hex().chars().take(KEY).collect()
}

fn part_frame(target: &str) -> (String, &'static str) {
    const END: &str = ".part";
    let room = LONGEST - ".".len() - ".dfget-".len() - KEY - END.len() - ".12345678".len();
    let cut = (0..=room.min(target.len())).rev().find(|at| target.is_char_boundary(*at)).unwrap_or(0);
    (format!(".{}.dfget-", &target[..cut]), END)
}

const KEY: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reference::Reference;

    fn url(text: &str) -> Option<String> {
        of_url(&Url::parse(text).unwrap())
    }

    #[test]
    fn a_file_is_called_by_the_last_segment() {
        assert_eq!(url("https://h/a/b.sif?x=/c").as_deref(), Some("b.sif"));
        assert_eq!(url("https://h/a%20b.sif").as_deref(), Some("a b.sif"));
        for none in [
            "https://h/",
            "https://h/a/",
            "https://h/.bashrc",
            "https://h/-rf",
            "https://h/a%2Fb",
            "https://h/%00",
        ] {
            assert_eq!(url(none), None, "{none}");
        }
    }

    #[test]
    fn an_image_is_called_by_repository_and_tag() {
        let of = |text: &str| match Reference::parse(text, false).unwrap() {
            Reference::File(image) => of_image(&image, ".sif"),
            Reference::Image(image) => of_image(&image, ""),
            Reference::Url(_) => panic!("an image"),
        };
        assert_eq!(of("oras://r.example/a/tool:1.2"), "tool_1.2.sif");
        assert_eq!(of("docker://alpine"), "alpine_latest");
        let digest = Digest::sha256(b"");
        assert_eq!(of(&format!("docker://alpine@{digest}")), "alpine_e3b0c44298fc");
    }

    #[test]
    fn a_part_is_known_by_its_target_and_content() {
        let name = part("x.sif", &key("a"));
        assert!(name.starts_with(".x.sif.dfget-") && name.ends_with(".part"), "{name}");
        assert_ne!(key("a"), key("b"));
        assert!(is_part_of(&name, "x.sif"));
        for other in ["y.sif", "x", "x.sif.dfget"] {
            assert!(!is_part_of(&name, other), "{other}");
        }
        assert!(!is_part_of("x.sif", "x.sif") && !is_part_of(".x.sif.dfget-zz.part", "x.sif"));
    }

    proptest! {
        #[test]
        fn names_fit_into_every_file_system(target in ".{1,255}") {
            let name = part(&target, &key("x"));
            prop_assert!(name.len() <= LONGEST);
            prop_assert!(is_part_of(&name, &target));
        }

        #[test]
        fn a_foreign_name_stays_in_its_directory(name in ".{0,40}") {
            if let Some(name) = plain(&name) {
                prop_assert_eq!(std::path::Path::new(&name).components().count(), 1);
                prop_assert!(std::path::Path::new(&name).file_name().is_some());
            }
        }
    }
}
