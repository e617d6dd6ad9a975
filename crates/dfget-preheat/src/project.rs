//! The images that a Nextflow or Snakemake project names in its files.
//!
//! Found by reading, not by running: what a workflow computes while it runs is not known here, and is told as
//! [`Unclear`] instead of guessed. Nextflow: the directive `container` and the scope `apptainer`, `singularity` or
//! `docker` with its `registry` (its reference, "Process directives" and "Configuration scopes"). Snakemake: the
//! directives `container`, `singularity` and `containerized` ("Running jobs in containers").

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// What was found, in the order of the files' names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Project {
    /// References, each once, as `dfget get` takes them.
    pub images: Vec<String>,
    /// Places that name an image which only a run knows.
    pub unclear: Vec<Unclear>,
}

/// A directive whose image cannot be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unclear {
    /// The file, as it was reached from the directory that was named.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// What stands there.
    pub text: String,
}

/// One directive.
#[derive(Debug, Eq, PartialEq)]
struct Directive {
    line: usize,
    value: Value,
}

#[derive(Debug, Eq, PartialEq)]
enum Value {
    /// A URL, or a name without one.
    Image(String),
    Unclear(String),
}

/// Directories deeper than this are not entered: links may lead in circles.
const DEPTH: usize = 12;
/// Files of a project.
const MOST_FILES: usize = 20_000;
/// A source is shorter.
const MOST_BYTES: u64 = 4 << 20;
/// What is told of an unclear directive.
const SHOWN: usize = 60;

static NEXTFLOW: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?m)^[ \t]*(?:process\.)?container\b[ \t]*=?[ \t]*"#));
static REGISTRY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"(?m)^[ \t]*(apptainer|singularity|docker)\.registry[ \t]*=[ \t]*["']([^"'$]+)["']"#)
});
static SNAKEMAKE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"(?m)^[ \t]*(?:container|singularity|containerized)[ \t]*:\s*(f?)(?:"([^"\n]*)"|'([^'\n]*)')"#)
});
static LITERAL: LazyLock<Regex> = LazyLock::new(|| pattern(r#""([^"$\n]+)"|'([^'\n]+)'"#));

#[expect(clippy::expect_used, reason = "the patterns above are part of the program")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

// === impl Project ===

impl Project {
    /// Reads all workflow files below `dir`.
    ///
    /// # Errors
    /// The directory, or one of its files, cannot be read.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        walk(dir, 0, &mut files)?;
        files.sort();
        let mut texts = Vec::with_capacity(files.len());
        for file in files {
            let text = String::from_utf8_lossy(&fs::read(&file)?).into_owned();
            texts.push((file, text));
        }
        Ok(Self::of_texts(&texts))
    }

    fn of_texts(texts: &[(PathBuf, String)]) -> Self {
        let registry = registry(texts.iter().map(|(_, text)| text.as_str()));
        let (mut project, mut seen) = (Self::default(), BTreeSet::new());
        for (file, text) in texts {
            let is_snakemake = is_snakemake(file);
            let directives = if is_snakemake { snakemake(text) } else { nextflow(text) };
            for Directive { line, value } in directives {
                match value {
                    Value::Image(name) => {
                        let named = if is_snakemake {
                            local_or_url(name)
                        } else {
                            nextflow_url(&name, registry.as_deref())
                        };
                        project.images.extend(named.filter(|image| seen.insert(image.clone())));
                    }
                    Value::Unclear(text) => project.unclear.push(Unclear { file: file.clone(), line, text }),
                }
            }
        }
        project
    }
}

/// Directories that hold what runs leave behind are not entered.
fn walk(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        if name.starts_with('.') || files.len() >= MOST_FILES {
            continue;
        }
        let Ok(about) = fs::metadata(&path) else { continue };
        if about.is_dir() {
            if depth < DEPTH && !["work", "results", "node_modules"].contains(&name.as_ref()) {
                walk(&path, depth + 1, files)?;
            }
        } else if about.is_file() && about.len() <= MOST_BYTES && (is_snakemake(&path) || is_nextflow(&path))
        {
            files.push(path);
        }
    }
    Ok(())
}

fn is_nextflow(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "nf" || extension == "config")
}

fn is_snakemake(file: &Path) -> bool {
    let by_name = file.file_name().is_some_and(|name| name == "Snakefile");
    by_name || file.extension().is_some_and(|extension| extension == "smk" || extension == "snakefile")
}

/// What Nextflow puts before names without a registry: for Apptainer if it is told, else for its elder.
fn registry<'a>(texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let told: Vec<_> = texts
        .flat_map(|text| REGISTRY.captures_iter(text))
        .map(|found| (found[1].to_owned(), found[2].to_owned()))
        .collect();
    ["apptainer", "singularity", "docker"].iter().find_map(|engine| {
        told.iter()
            .find(|(of, _)| of == engine)
            .map(|(_, registry)| registry.trim_end_matches('/').to_owned())
    })
}

/// As Nextflow reads it for Apptainer: a URL as it is, a file not at all, a name as an image of a registry.
fn nextflow_url(name: &str, registry: Option<&str>) -> Option<String> {
    if name.contains("://") || name.starts_with(['/', '.']) {
        return local_or_url(name.to_owned());
    }
    let first = name.split('/').next().unwrap_or_default();
    let has_registry = name.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    Some(match registry {
        Some(registry) if !has_registry => format!("docker://{registry}/{name}"),
        _ => format!("docker://{name}"),
    })
}

fn local_or_url(name: String) -> Option<String> {
    (name.contains("://") && !name.starts_with("file://")).then_some(name)
}

fn snakemake(text: &str) -> Vec<Directive> {
    let directive = |found: regex::Captures<'_>| {
        let line = line_of(text, found.get(0)?.start());
        let value = found.get(2).or_else(|| found.get(3))?.as_str();
        let computed = &found[1] == "f" || value.contains('{');
        let value = if computed { Value::Unclear(shown(value)) } else { Value::Image(value.to_owned()) };
        Some(Directive { line, value })
    };
    SNAKEMAKE.captures_iter(text).filter_map(directive).collect()
}

fn nextflow(text: &str) -> Vec<Directive> {
    let mut directives = Vec::new();
    for found in NEXTFLOW.find_iter(text) {
        let rest = &text[found.end()..];
        let line = line_of(text, found.start() + found.as_str().len() - found.as_str().trim_start().len());
        let value = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => match string(rest, quote) {
                Some(content) if quote == '"' && content.contains('$') => computed(content),
                Some(content) if !content.trim().is_empty() => Value::Image(content.trim().to_owned()),
                _ => continue,
            },
            Some('{') => Value::Unclear(shown(rest.lines().next().unwrap_or_default())),
            Some(first) if first.is_alphabetic() && found.as_str().contains('=') => {
                Value::Unclear(shown(rest.lines().next().unwrap_or_default()))
            }
            _ => continue,
        };
        directives.push(Directive { line, value });
    }
    directives
}

/// The content of the string that `text` begins with. A `${…}` in it may hold quotes of its own.
fn string(text: &str, quote: char) -> Option<&str> {
    let (mut depth, mut escaped, mut before) = (0_usize, false, quote);
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' if depth > 0 || (before == '$' && quote == '"') => depth += 1,
            '}' if depth > 0 => depth -= 1,
            _ if letter == quote && depth == 0 => return text.get(1..at),
            '\n' if depth == 0 => return None,
            _ => {}
        }
        before = letter;
    }
    None
}

/// A choice between images, as nf-core writes it: the URL in it is for Apptainer and Singularity.
fn computed(content: &str) -> Value {
    let literals: Vec<&str> = LITERAL
        .captures_iter(content)
        .filter_map(|found| found.get(1).or_else(|| found.get(2)).map(|one| one.as_str()))
        .collect();
    let is_choice = content.trim_start().starts_with("${") && content.contains('?') && content.contains(':');
    let url = literals.iter().find(|one| one.contains("://"));
    let name = literals.iter().find(|one| one.contains('/'));
    match url.or(name) {
        Some(image) if is_choice && !image.contains('$') => Value::Image((*image).to_owned()),
        _ => Value::Unclear(shown(content)),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn shown(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> Project {
        let texts: Vec<_> =
            files.iter().map(|(file, text)| (PathBuf::from(file), (*text).to_owned())).collect();
        Project::of_texts(&texts)
    }

    #[test]
    fn a_choice_of_nf_core_means_its_url() {
        let module = r#"
process FASTQC {
    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.example.org/singularity/fastqc:0.12.1--hdfd78af_0' :
        'biocontainers/fastqc:0.12.1--hdfd78af_0' }"
}
"#;
        let found = project(&[("modules/fastqc/main.nf", module)]);
        assert_eq!(found.images, ["https://depot.example.org/singularity/fastqc:0.12.1--hdfd78af_0"]);
        assert!(found.unclear.is_empty(), "{found:?}");
    }

    #[test]
    fn names_get_the_registry_that_the_configuration_gives_to_apptainer() {
        let process = "process A {\n  container 'lab/tool:1'\n}\nprocess B {\n  container \"r.example:5000/tool:2\"\n}\n";
        let config = "docker.registry = 'd.example'\napptainer.registry    = 'q.example/'\nprocess.container = 'base:3'\n";
        let found = project(&[("main.nf", process), ("nextflow.config", config)]);
        let expected =
            ["docker://q.example/lab/tool:1", "docker://r.example:5000/tool:2", "docker://q.example/base:3"];
        assert_eq!(found.images, expected);
        assert_eq!(project(&[("main.nf", process)]).images[0], "docker://lab/tool:1");
    }

    #[test]
    fn snakemake_names_urls_and_files() {
        let rules = "container: \"docker://continuumio/miniconda3:4.12\"\n\nrule a:\n    container:\n        'oras://r.example/a:1'\n\
                     rule b:\n    singularity: \"images/local.sif\"\nrule c:\n    container: f\"docker://{IMAGE}\"\n";
        let found = project(&[("workflow/Snakefile", rules)]);
        assert_eq!(found.images, ["docker://continuumio/miniconda3:4.12", "oras://r.example/a:1"]);
        assert_eq!(
            found.unclear,
            [Unclear { file: "workflow/Snakefile".into(), line: 9, text: "docker://{IMAGE}".to_owned() }]
        );
    }

    #[test]
    fn what_only_a_run_knows_is_told_with_its_place() {
        let process = "process A {\n    container \"${params.image}\"\n}\nprocess B {\n    container { params.b }\n}\n\
                       process C {\n    container params.c\n}\n// container 'not/this:1'\nprocess.container = params.d\n";
        let found = project(&[("main.nf", process)]);
        assert!(found.images.is_empty(), "{found:?}");
        let places: Vec<_> = found.unclear.iter().map(|one| (one.line, one.text.as_str())).collect();
        assert_eq!(places, [(2, "${params.image}"), (5, "{ params.b }"), (11, "params.d")]);
    }

    #[test]
    fn an_image_is_named_once_and_files_are_none() {
        let process = "container 'a/b:1'\ncontainer 'a/b:1'\ncontainer '/images/x.sif'\ncontainer ''\ncontainer 'open\n";
        assert_eq!(project(&[("main.nf", process)]).images, ["docker://a/b:1"]);
    }

    #[test]
    fn a_directory_is_walked_without_what_runs_leave() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("main.nf", "process A { }\n"),
            ("modules/a/main.nf", "container 'a/a:1'\n"),
            ("work/ab/main.nf", "container 'a/work:1'\n"),
            (".git/main.nf", "container 'a/git:1'\n"),
            ("workflow/rules/b.smk", "container: 'docker://b/b:1'\n"),
            ("README.md", "container 'a/readme:1'\n"),
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        let found = Project::read(dir.path()).unwrap();
        assert_eq!(found.images, ["docker://a/a:1", "docker://b/b:1"]);
        assert!(Project::read(&dir.path().join("missing")).is_err());
    }
}
