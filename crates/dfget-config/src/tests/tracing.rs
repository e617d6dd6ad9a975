//! Where traces go.

use super::{GOOD, good_and, load_text, machine, said};
use crate::{LoadOptions, Loaded, PemSource, Plain, Source, Traces, load, testing::environment};

fn traces(lines: &str) -> Option<Traces> {
    load_text(format!("{GOOD}{lines}")).unwrap().config.traces
}

fn with_variables(lines: &str, variables: &[(&str, &str)]) -> Loaded {
    let files = machine().with("/etc/dragonfly/dfget.yaml", format!("{GOOD}{lines}"));
    load(&LoadOptions::default(), &environment(files, variables)).unwrap()
}

#[test]
fn without_an_endpoint_there_are_none() {
    assert_eq!(traces(""), None);
    assert_eq!(traces("tracing: {endpoint: ''}"), None);
    assert_eq!(
        good_and("tracing: {ratio: 0.5, protocol: https}"),
        ["3:23: tracing.protocol: without `endpoint` no traces are sent; \
          add `endpoint: 127.0.0.1:4318`, or remove the section"]
    );
}

#[test]
fn a_collector_is_read() {
    let text = "service-name: pulls\ntracing:\n  endpoint: Collector.example\n  protocol: https\n  path: /otlp\n  \
                headers: {authorization: Bearer t, x-team: hpc}\n  ratio: 0.25\n  caCert: ca.crt\n";
    let traces = traces(text).unwrap();
    assert_eq!(traces.collector.to_string(), "https://collector.example:4318");
    assert_eq!((traces.path.as_str(), traces.service.as_str()), ("/otlp", "pulls"));
    let headers: Vec<_> =
        traces.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers, [("authorization", "Bearer t"), ("x-team", "hpc")]);
    assert_eq!(traces.roots, Some(PemSource::File("/etc/dragonfly/ca.crt".into())));
    assert!((traces.ratio - 0.25).abs() < f64::EPSILON);
}

#[test]
fn a_collector_may_be_written_in_several_ways() {
    for (endpoint, collector, path) in [
        ("127.0.0.1:4318", "http://127.0.0.1:4318", "/v1/traces"),
        ("'[::1]'", "http://[::1]:4318", "/v1/traces"),
        ("'[::1]:9'", "http://[::1]:9", "/v1/traces"),
        ("node1/base/", "http://node1:4318", "/base/v1/traces"),
        ("http://node1", "http://node1", "/v1/traces"),
        ("HTTPS://node1:9/a/b", "https://node1:9", "/a/b/v1/traces"),
    ] {
        let traces = traces(&format!("tracing: {{endpoint: {endpoint}}}")).unwrap();
        assert_eq!(
            (traces.collector.to_string().as_str(), traces.path.as_str()),
            (collector, path),
            "{endpoint}"
        );
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let endpoint = "; write host and port of a collector, for example `endpoint: 127.0.0.1:4318`";
    let table = [
        ("endpoint: 'ftp://h'", "endpoint: its scheme is neither http nor https (got `ftp://h`)", endpoint),
        ("endpoint: 'h:0'", "endpoint: it names no host and port (got `h:0`)", endpoint),
        (
            "endpoint: 'h:4318/a?b'",
            "endpoint: its path has what no path has, or a query (got `h:4318/a?b`)",
            endpoint,
        ),
        (
            "endpoint: 'u:p@h'",
            "endpoint: it holds a login, which belongs into `headers` (got `u:p@h`)",
            endpoint,
        ),
        (
            "protocol: grpc",
            "protocol: OTLP over gRPC is not spoken; collectors take HTTP too, usually at port 4318 (got `grpc`)",
            "; write `http` or `https`, for example `protocol: http`",
        ),
        (
            "protocol: udp",
            "protocol: there is no such protocol (got `udp`)",
            "; write `http` or `https`, for example `protocol: http`",
        ),
        (
            "path: v1",
            "path: it does not begin with `/`, or has what no path has (got `v1`)",
            "; write a plain path, for example `path: /v1/traces`",
        ),
        (
            "ratio: 1.5",
            "ratio: no share of a whole (got `1.5`)",
            "; write a number from 0 to 1, for example `ratio: 0.1`",
        ),
        (
            "ratio: half",
            "ratio: not a number (got `half`)",
            "; write a number from 0 to 1, for example `ratio: 0.1`",
        ),
        (
            "headers: [a]",
            "headers: a mapping belongs here (got a list)",
            "; write keys below `headers:`, indented with spaces",
        ),
        (
            "headers: {'a b': c}",
            "headers.a b: no name of a header",
            "; write letters, digits and dashes, for example `authorization`",
        ),
        (
            "headers: {Content-Length: 5}",
            "headers.Content-Length: this header is set by the exporter itself",
            "; remove it",
        ),
        (
            "headers: {a: \"secret\\nsecret\"}",
            "headers.a: no value of a header",
            "; write it in one line of ASCII; it is not shown here",
        ),
        ("headers: {a: [secret]}", "headers.a: text belongs here (got a list)", "; write `a: Bearer …`"),
    ];
    for (key, problem, remedy) in table {
        let first = if key.starts_with("endpoint") { "" } else { "endpoint: h, " };
        let said = good_and(&format!("tracing: {{{first}{key}}}"));
        assert_eq!(said.len(), 1, "{key}: {said:?}");
        assert!(said[0].ends_with(&format!(": tracing.{problem}{remedy}")), "{key}: {said:?}");
        assert!(said[0].starts_with("3:") && !said[0].contains("secret"), "{said:?}");
    }
    let both = good_and("tracing: {endpoint: 'http://h', protocol: https}");
    assert_eq!(
        both,
        [format!(
            "3:21: tracing.endpoint: its scheme is another than `protocol` says (got `http://h`){endpoint}"
        )]
    );
}

#[test]
fn variables_stand_below_the_file() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:9/base"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2"),
        ("OTEL_SERVICE_NAME", "pulls"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
    ];
    let loaded = with_variables("", &variables);
    let traces = loaded.config.traces.clone().unwrap();
    assert_eq!(
        (traces.collector.to_string(), traces.path.as_str()),
        ("https://collector:9".into(), "/base/v1/traces")
    );
    assert_eq!((traces.service.as_str(), traces.headers[0].1.expose()), ("pulls", "Bearer hunter2"));
    assert!((traces.ratio - 0.5).abs() < f64::EPSILON);
    let shown = |loaded: &Loaded, key: &str| {
        let setting = loaded.settings.iter().find(|setting| setting.key == key).unwrap();
        (setting.value(), setting.source.clone())
    };
    let of = Source::Environment;
    assert_eq!(
        shown(&loaded, "tracing.endpoint"),
        (Plain::Text("https://collector:9/base".into()), of("OTEL_EXPORTER_OTLP_ENDPOINT"))
    );
    assert_eq!(shown(&loaded, "service-name").1, of("OTEL_SERVICE_NAME"));
    assert_eq!(shown(&loaded, "tracing.ratio"), (Plain::Text("0.5".into()), of("OTEL_TRACES_SAMPLER")));
    assert!(!loaded.settings.to_yaml(false).contains("hunter2"));
    assert!(loaded.settings.to_yaml(true).contains("authorization: 'Bearer hunter2'"));

    let lines = "service-name: own\ntracing: {endpoint: 'own:1', ratio: 1, headers: {x: hunter3}}";
    let loaded = with_variables(lines, &variables);
    let traces = loaded.config.traces.clone().unwrap();
    assert_eq!((traces.collector.to_string(), traces.service.as_str()), ("http://own:1".into(), "own"));
    assert_eq!((traces.path.as_str(), traces.headers[0].0.as_str()), ("/v1/traces", "x"));
    assert!(traces.ratio > 0.9);
    assert!(matches!(shown(&loaded, "tracing.endpoint").1, Source::File(_)));
    let yaml = loaded.settings.to_yaml(false);
    assert!(yaml.contains("x: '***'") && !yaml.contains("hunter"), "{yaml}");
    assert!(loaded.settings.to_yaml(true).contains("x: hunter3"));
}

#[test]
fn variables_that_cannot_be_used_refuse_nothing() {
    let mut switched_off = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1"), ("OTEL_SDK_DISABLED", "TRUE")];
    assert_eq!(with_variables("", &switched_off).config.traces, None);
    switched_off.pop();
    assert_eq!(with_variables("tracing: {endpoint: ''}", &switched_off).config.traces, None);
    let grpc = [switched_off[0], ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    let table: [(&[_], &str); 4] = [
        (
            &grpc,
            "OTEL_EXPORTER_OTLP_PROTOCOL: of OTLP only `http/protobuf` is spoken; it is not used; \
             name the collector's HTTP port, usually 4318, by `tracing.endpoint`",
        ),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "h@nter2:1")],
            "OTEL_EXPORTER_OTLP_ENDPOINT: it holds a login, which belongs into `headers`; no traces are sent; \
             write it as in `http://127.0.0.1:4318`, or set `tracing.endpoint` in the file",
        ),
        (
            &[("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")],
            "OTEL_EXPORTER_OTLP_HEADERS: it is no list of `name=value`; it is not used; \
             write it as in `authorization=Bearer%20TOKEN`",
        ),
        (
            &[("OTEL_TRACES_SAMPLER", "xray")],
            "OTEL_TRACES_SAMPLER: there is no such sampler, or its argument is no share; it is not used; \
             write `parentbased_traceidratio`, and a number from 0 to 1 as `OTEL_TRACES_SAMPLER_ARG`",
        ),
    ];
    for (variables, message) in table {
        let with_endpoint: Vec<_> = switched_off.iter().chain(variables).copied().collect();
        let loaded = with_variables("", &with_endpoint);
        let usable = !message.contains("by `tracing.endpoint`") && !message.contains("no traces are sent");
        assert_eq!(loaded.config.traces.is_some(), usable, "{message}");
        assert_eq!(said(Ok(loaded)), [message]);
        // Nobody wants to read of variables that are for other programs.
        let without: Vec<_> =
            variables.iter().filter(|(name, _)| !name.ends_with("ENDPOINT")).copied().collect();
        assert_eq!(said(Ok(with_variables("", &without))), [""; 0]);
        let off = with_variables("tracing: {endpoint: ''}", &with_endpoint);
        assert_eq!((off.config.traces.clone(), said(Ok(off)).len()), (None, 0));
    }
    let own = with_variables("tracing: {endpoint: own}", &grpc);
    assert_eq!((own.config.traces.is_some(), said(Ok(own)).len()), (true, 0));
}

#[test]
fn a_token_in_a_file_that_all_can_read_is_told() {
    let text = format!("{GOOD}tracing: {{endpoint: h, headers: {{authorization: t}}}}\n");
    let files = machine().with_mode("/etc/dragonfly/dfget.yaml", text, 0o644);
    let told = said(super::load_files(files));
    assert!(told.len() == 1 && told[0].contains("it holds a secret"), "{told:?}");
}
