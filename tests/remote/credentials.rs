//! Credentials: found as the AWS CLI finds them, and never shown.

use std::io::BufRead;
use std::process::{Command, Output, Stdio};

use super::commands::{npy, said};
use super::server::{Asked, BUCKET, Fault, KEY, SECRET, Server};
use crate::support::{Scratch, npk_command, python_path};

struct Home {
    scratch: Scratch,
    server: Server,
}

impl Home {
    fn new(config: &str, credentials: &str) -> Home {
        let (scratch, server) = (Scratch::new(), Server::new());
        server.put("x.npy", &npy(5));
        std::fs::create_dir(scratch.join(".aws")).unwrap();
        std::fs::write(scratch.join(".aws/config"), config.replace("ENDPOINT", &server.endpoint()))
            .unwrap();
        std::fs::write(scratch.join(".aws/credentials"), credentials).unwrap();
        Home { scratch, server }
    }
    fn command(&self) -> Command {
        let mut command = npk_command();
        command
            .env("HOME", self.scratch.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("NO_PROXY", "127.0.0.1");
        command.args(["list", &self.server.url("x.npy"), "-v"]);
        command
    }
}

#[track_caller]
fn works(command: &mut Command) {
    let output = command.output().unwrap();
    check(&output);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn check(output: &Output) {
    let all = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!all.contains(SECRET), "{all}");
}

fn keys() -> String {
    format!("aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
}

#[test]
fn profiles() {
    let config = "[default]\nregion = us-east-1\nendpoint_url = ENDPOINT\n[profile other]\nregion = eu-west-1\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = ENDPOINT\n";
    let wrong = "aws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n";
    let home =
        Home::new(config, &format!("[default]\n{}[other]\n{}[wrong]\n{wrong}", keys(), keys()));
    works(&mut home.command());
    works(home.command().args(["--profile", "other", "--request-payer"]));
    let pays = |a: &Asked| a.headers.get("x-amz-request-payer").is_some_and(|v| v == "requester");
    assert!(home.server.asked().iter().any(pays));
    works(home.command().env("AWS_PROFILE", "other"));
    // A profile that is named beats the environment; one from AWS_PROFILE does not.
    works(
        home.command()
            .args(["--profile", "other"])
            .env("AWS_ACCESS_KEY_ID", "AKIAWRONG")
            .env("AWS_SECRET_ACCESS_KEY", "wrong"),
    );
    let mut both = home.command();
    both.env("AWS_PROFILE", "other")
        .env("AWS_ACCESS_KEY_ID", "AKIAWRONG")
        .env("AWS_SECRET_ACCESS_KEY", "wrong");
    let text = said(6, both.output().unwrap());
    assert!(
        text.contains("does not accept the credentials") || text.contains("access denied"),
        "{text}"
    );
    let text = said(6, home.command().args(["--profile", "nobody"]).output().unwrap());
    assert!(text.contains("no profile nobody"), "{text}");
    let text = said(
        6,
        home.command()
            .args(["--profile", "wrong", "--endpoint-url", &home.server.endpoint()])
            .output()
            .unwrap(),
    );
    assert!(
        text.contains("does not accept the credentials") || text.contains("access denied"),
        "{text}"
    );
}

#[test]
fn credential_process() {
    let home = Home::new(
        "[profile tool]\nregion = us-east-1\nendpoint_url = ENDPOINT\ncredential_process = /bin/cat TOOL\n",
        "",
    );
    let (tool, config) = (home.scratch.join("tool.json"), home.scratch.join(".aws/config"));
    std::fs::write(
        &tool,
        format!(
            "{{\"Version\": 1, \"AccessKeyId\": \"{KEY}\", \"SecretAccessKey\": \"{SECRET}\"}}"
        ),
    )
    .unwrap();
    let text = std::fs::read_to_string(&config).unwrap().replace("TOOL", tool.to_str().unwrap());
    std::fs::write(&config, text).unwrap();
    works(home.command().args(["--profile", "tool"]));
    works(home.command().env("AWS_PROFILE", "tool"));
    std::fs::write(&tool, format!("not what it should be {SECRET}")).unwrap();
    let output = home.command().args(["--profile", "tool"]).output().unwrap();
    check(&output);
    said(6, output);
}

#[test]
fn container() {
    let home = Home::new("", "");
    let web = Server::web();
    let json = format!(
        "{{\"AccessKeyId\": \"{KEY}\", \"SecretAccessKey\": \"{SECRET}\", \"Token\": \"\", \"Expiration\": \"2199-01-01T00:00:00Z\"}}"
    );
    web.put("creds.json", json.as_bytes());
    let mut command = home.command();
    command.env(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        format!("{}/{BUCKET}/creds.json", web.endpoint()),
    );
    works(command.args(["--endpoint-url", &home.server.endpoint()]));
    assert!(web.asked().iter().any(|a| a.uri.contains("creds.json")), "nobody asked the container");
    // A profile without keys says nothing about them.
    let home = Home::new("[profile bare]\nregion = us-east-1\nendpoint_url = ENDPOINT\n", "");
    let mut command = home.command();
    command.env(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        format!("{}/{BUCKET}/creds.json", web.endpoint()),
    );
    command.env("AWS_ACCESS_KEY_ID", "AKIAWRONG").env("AWS_SECRET_ACCESS_KEY", "wrong");
    works(command.args(["--profile", "bare"]));
}

#[test]
fn profiles_of_the_environment() {
    // Region and endpoint may stand in either file, and everything comes from the one profile.
    let wrong = "aws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n";
    let home = Home::new("[profile p2]\nregion = eu-west-1\n", "");
    let credentials = format!(
        "[default]\n{wrong}[p2]\n{}endpoint_url = {}\nregion = eu-north-1\n",
        keys(),
        home.server.endpoint()
    );
    std::fs::write(home.scratch.join(".aws/credentials"), credentials).unwrap();
    for variable in ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"] {
        works(home.command().env(variable, "p2"));
        let north = |a: &Asked| {
            a.headers
                .get("authorization")
                .is_some_and(|v| v.to_str().unwrap().contains("/eu-north-1/"))
        };
        assert!(home.server.asked().iter().all(north));
        let text = said(6, home.command().env(variable, "nobody").output().unwrap());
        assert!(text.contains("no profile nobody") && text.contains(variable), "{text}");
    }
}

#[test]
fn files_are_read_as_the_aws_cli_reads_them() {
    let keys =
        |sign| format!("aws_access_key_id {sign} {KEY}\n  aws_secret_access_key {sign} {SECRET}\n");
    let config = format!(
        "\u{feff}# mine\n[profile \"two words\"]\n  region = us-east-1\n  s3 =\n    addressing_style = path\n  endpoint_url = ENDPOINT\n  {}\
         [profile colons]\n  endpoint_url: ENDPOINT\n  {}\
         [preview]\nsomething = else\n[profile ü]\nREGION=eu-west-1\nEndpoint_Url=ENDPOINT\n  {}",
        keys("="),
        keys(":"),
        keys("="),
    );
    let home = Home::new(&config.replace('\n', "\r\n"), "");
    for name in ["two words", "colons", "ü"] {
        works(home.command().args(["--profile", name]));
        works(home.command().env("AWS_PROFILE", name));
    }
}

#[test]
fn credentials_of_another_place_are_never_taken_instead() {
    let config = "[default]\nregion = us-east-1\nendpoint_url = ENDPOINT\n\
                  [profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = gone\n\
                  [profile code]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = default\nmfa_serial = arn:aws:iam::1:mfa/me\n\
                  [profile tool]\nendpoint_url = ENDPOINT\ncredential_process = /bin/false\n\
                  [profile half]\naws_secret_access_key = other\n";
    let credentials =
        format!("[default]\n{0}[tool]\n{0}[half]\naws_access_key_id = {KEY}\n", keys());
    let home = Home::new(config, &credentials);
    works(&mut home.command());
    // The keys of the credentials file come before the configuration's process.
    works(home.command().args(["--profile", "tool"]));
    let refuses = |command: &mut Command, words: &str| {
        let text = said(6, command.output().unwrap());
        assert!(text.contains(words), "{text}");
    };
    let with = |name: &str, value: &str| {
        let mut command = home.command();
        command.env(name, value);
        command
    };
    refuses(&mut with("AWS_ACCESS_KEY_ID", KEY), "AWS_SECRET_ACCESS_KEY is not");
    refuses(&mut with("AWS_WEB_IDENTITY_TOKEN_FILE", "token"), "AWS_ROLE_ARN is not");
    refuses(
        home.command().args(["--profile", "role"]),
        "the source_profile gone, which is not there",
    );
    refuses(home.command().args(["--profile", "code"]), "MFA");
    refuses(home.command().args(["--profile", "half"]), "the profile half gives no credentials");
    // The older name of the session token.
    works(
        with("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_SECURITY_TOKEN", "old"),
    );
    assert!(
        home.server
            .asked()
            .iter()
            .any(|a| a.headers.get("x-amz-security-token").is_some_and(|t| t == "old"))
    );
}

#[test]
fn services_behind_a_proxy() {
    let home = Home::new("[default]\nregion = us-east-1\nendpoint_url = ENDPOINT\n", "");
    let proxy = Server::web();
    gives_sessions(&proxy);
    let mut command = with_token(&home);
    command
        .env("AWS_ENDPOINT_URL_STS", "http://sts.test.invalid")
        .env("HTTP_PROXY", proxy.endpoint());
    works(command.env("http_proxy", proxy.endpoint()));
    assert!(
        proxy.asked().iter().any(|a| a.uri.starts_with("http://sts.test.invalid/")),
        "the proxy was not asked"
    );
}

/// A command with a token that the security token service gives keys for.
fn with_token(home: &Home) -> Command {
    let token = home.scratch.join("token");
    std::fs::write(&token, "a.web.token").unwrap();
    let mut command = home.command();
    command
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", &token)
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader");
    command
}

/// A server that answers as that service.
fn gives_sessions(server: &Server) {
    let answer = Fault::Answer(200, vec![("content-type", "text/xml")], session());
    server.fault(0, usize::MAX, answer, |_| true);
}

/// An answer of the security token service.
fn session() -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>\
         <Credentials><AccessKeyId>{KEY}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>token</SessionToken>\
         <Expiration>2199-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>"
    )
}

#[test]
fn web_identity() {
    let wrong = "[default]\naws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n";
    let home = Home::new("[default]\nregion = us-east-1\nendpoint_url = ENDPOINT\n", wrong);
    let sts = Server::web();
    gives_sessions(&sts);
    let mut command = with_token(&home);
    works(command.env("AWS_ENDPOINT_URL_STS", sts.endpoint()));
    assert_eq!(sts.asked().len(), 1, "keys of the shared file came first");
    assert!(
        home.server
            .asked()
            .iter()
            .all(|a| a.headers.get("x-amz-security-token").is_some_and(|t| t == "token"))
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn services_with_certificates_of_ones_own() {
    let home = Home::new("[default]\nregion = us-east-1\nendpoint_url = ENDPOINT\n", "");
    let certificates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/remote/tls");
    // Says its port once it listens; its certificate is good for 100 years.
    let code = format!(
        "import http.server, ssl\n\
         answer = b'''{}'''\n\
         class Answer(http.server.BaseHTTPRequestHandler):\n\
         \x20   def do_POST(self):\n\
         \x20       self.rfile.read(int(self.headers['content-length']))\n\
         \x20       self.send_response(200)\n\
         \x20       self.send_header('content-length', str(len(answer)))\n\
         \x20       self.end_headers()\n\
         \x20       self.wfile.write(answer)\n\
         server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answer)\n\
         context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
         context.load_cert_chain('server.pem')\n\
         server.socket = context.wrap_socket(server.socket, server_side=True)\n\
         print(server.server_address[1], flush=True)\n\
         server.serve_forever()\n",
        session()
    );
    let mut python = Command::new(python_path());
    let mut server = python
        .args(["-c", &code])
        .current_dir(&certificates)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut port = String::new();
    std::io::BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let asked = |more: &[&str]| {
        let mut command = with_token(&home);
        command
            .env("AWS_ENDPOINT_URL_STS", format!("https://localhost:{}", port.trim()))
            .env("NO_PROXY", "127.0.0.1,localhost");
        command.args(more).output().unwrap()
    };
    let bundle = certificates.join("ca.pem");
    let (without, with) = (asked(&[]), asked(&["--ca-bundle", bundle.to_str().unwrap()]));
    server.kill().unwrap();
    server.wait().unwrap();
    let text = said(6, without);
    assert!(text.contains("certificate"), "{text}");
    assert!(with.status.success(), "{}", String::from_utf8_lossy(&with.stderr));
}

#[test]
fn instance_metadata() {
    let home = Home::new("[default]\nregion = us-east-1\nendpoint_url = ENDPOINT\n", "");
    let machine = Server::web();
    let answer = |path: &'static str, method: &'static str, headers, body: &str| {
        machine.fault(0, usize::MAX, Fault::Answer(200, headers, body.into()), move |a: &Asked| {
            a.method == method && a.uri.ends_with(path)
        });
    };
    answer(
        "/latest/api/token",
        "PUT",
        vec![("x-aws-ec2-metadata-token-ttl-seconds", "21600")],
        "session",
    );
    answer("/meta-data/iam/security-credentials/", "GET", vec![], "reader");
    let keys = format!(
        "{{\"Code\": \"Success\", \"LastUpdated\": \"2024-01-01T00:00:00Z\", \"Type\": \"AWS-HMAC\", \"AccessKeyId\": \"{KEY}\", \
         \"SecretAccessKey\": \"{SECRET}\", \"Token\": \"token\", \"Expiration\": \"2199-01-01T00:00:00Z\"}}"
    );
    answer("/meta-data/iam/security-credentials/reader", "GET", vec![], &keys);
    let mut command = home.command();
    works(
        command
            .env_remove("AWS_EC2_METADATA_DISABLED")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.endpoint()),
    );
    let asked = machine.asked();
    let with_token = |a: &Asked| {
        a.method == "PUT"
            || a.headers.get("x-aws-ec2-metadata-token").is_some_and(|t| t == "session")
    };
    assert!(asked.len() >= 3 && asked.iter().all(with_token), "{asked:#?}");
}

#[test]
fn single_sign_on() {
    let config = "[profile me]\nregion = us-east-1\nendpoint_url = ENDPOINT\nsso_start_url = https://me.example.com/start\n\
                  sso_region = us-east-1\nsso_account_id = 123456789012\nsso_role_name = reader\n";
    let home = Home::new(config, "");
    let portal = Server::web();
    let keys = format!(
        "{{\"roleCredentials\": {{\"accessKeyId\": \"{KEY}\", \"secretAccessKey\": \"{SECRET}\", \"sessionToken\": \"token\", \
         \"expiration\": 7226582400000}}}}"
    );
    portal.fault(
        0,
        usize::MAX,
        Fault::Answer(200, vec![("content-type", "application/json")], keys),
        |a| a.uri.contains("/federation/"),
    );
    let text = said(
        6,
        home.command()
            .args(["--profile", "me"])
            .env("AWS_ENDPOINT_URL_SSO", portal.endpoint())
            .output()
            .unwrap(),
    );
    assert!(text.contains("the profile me"), "{text}");
    // The login's token: its file is named by the SHA-1 of the address.
    let cache = home.scratch.join(".aws/sso/cache");
    std::fs::create_dir_all(&cache).unwrap();
    let name = "07209071372f700dc2ffcd6ab527366103d1dcae.json";
    let login = "{\"startUrl\": \"https://me.example.com/start\", \"region\": \"us-east-1\", \"accessToken\": \"login\", \"expiresAt\": \"2199-01-01T00:00:00Z\"}";
    std::fs::write(cache.join(name), login).unwrap();
    works(home.command().args(["--profile", "me"]).env("AWS_ENDPOINT_URL_SSO", portal.endpoint()));
    assert!(
        portal
            .asked()
            .iter()
            .any(|a| a.headers.get("x-amz-sso_bearer_token").is_some_and(|t| t == "login"))
    );
}

#[test]
fn none_at_all() {
    let home = Home::new("[default]\nendpoint_url = ENDPOINT\n", "");
    let text = said(6, home.command().output().unwrap());
    for word in [
        "AWS_ACCESS_KEY_ID",
        "profile default",
        "instance metadata",
        "--no-sign-request",
        "--profile",
    ] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    assert!(home.server.asked().is_empty());
    // Public data.
    let public = Server::anonymous();
    public.put("x.npy", &npy(5));
    for flag in ["--no-sign-request", "--anon"] {
        works(home.command().args([flag, "--endpoint-url", &public.endpoint()]));
    }
    assert!(public.asked().iter().all(|a| !a.headers.contains_key("authorization")));
}
