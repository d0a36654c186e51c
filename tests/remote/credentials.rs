//! Credentials: found as the AWS CLI finds them, and never shown.

use std::process::{Command, Output};

use super::commands::{npy, said};
use super::server::{Asked, BUCKET, KEY, SECRET, Server};
use crate::support::{Scratch, npk_command};

struct Home {
    scratch: Scratch,
    server: Server,
}

impl Home {
    fn new(config: &str, credentials: &str) -> Home {
        let (scratch, server) = (Scratch::new(), Server::new());
        server.put("x.npy", &npy(5));
        std::fs::create_dir(scratch.join(".aws")).unwrap();
        std::fs::write(scratch.join(".aws/config"), config.replace("ENDPOINT", &server.endpoint())).unwrap();
        std::fs::write(scratch.join(".aws/credentials"), credentials).unwrap();
        Home { scratch, server }
    }
    fn command(&self) -> Command {
        let mut command = npk_command();
        command.env("HOME", self.scratch.path()).env("AWS_EC2_METADATA_DISABLED", "true").env("NO_PROXY", "127.0.0.1");
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
    let all = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!all.contains(SECRET), "{all}");
}

fn keys() -> String {
    format!("aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
}

#[test]
fn profiles() {
    let config = "[default]\nregion = us-east-1\nendpoint_url = ENDPOINT\n[profile other]\nregion = eu-west-1\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = ENDPOINT\n";
    let wrong = "aws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n";
    let home = Home::new(config, &format!("[default]\n{}[other]\n{}[wrong]\n{wrong}", keys(), keys()));
    works(&mut home.command());
    works(home.command().args(["--profile", "other", "--request-payer"]));
    let pays = |a: &Asked| a.headers.get("x-amz-request-payer").is_some_and(|v| v == "requester");
    assert!(home.server.asked().iter().any(pays));
    works(home.command().env("AWS_PROFILE", "other"));
    // A profile that is named beats the environment; one from AWS_PROFILE does not.
    works(home.command().args(["--profile", "other"]).env("AWS_ACCESS_KEY_ID", "AKIAWRONG").env("AWS_SECRET_ACCESS_KEY", "wrong"));
    let mut both = home.command();
    both.env("AWS_PROFILE", "other").env("AWS_ACCESS_KEY_ID", "AKIAWRONG").env("AWS_SECRET_ACCESS_KEY", "wrong");
    let text = said(6, both.output().unwrap());
    assert!(text.contains("does not accept the credentials") || text.contains("access denied"), "{text}");
    let text = said(6, home.command().args(["--profile", "nobody"]).output().unwrap());
    assert!(text.contains("no profile nobody"), "{text}");
    let text = said(6, home.command().args(["--profile", "wrong", "--endpoint-url", &home.server.endpoint()]).output().unwrap());
    assert!(text.contains("does not accept the credentials") || text.contains("access denied"), "{text}");
}

#[test]
fn credential_process() {
    let home = Home::new("[profile tool]\nregion = us-east-1\nendpoint_url = ENDPOINT\ncredential_process = /bin/cat TOOL\n", "");
    let (tool, config) = (home.scratch.join("tool.json"), home.scratch.join(".aws/config"));
    std::fs::write(&tool, format!("{{\"Version\": 1, \"AccessKeyId\": \"{KEY}\", \"SecretAccessKey\": \"{SECRET}\"}}")).unwrap();
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
    command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/{BUCKET}/creds.json", web.endpoint()));
    let output = command.args(["--endpoint-url", &home.server.endpoint()]).output().unwrap();
    check(&output);
    assert!(web.asked().iter().any(|a| a.uri.contains("creds.json")), "nobody asked the container");
}

#[test]
fn none_at_all() {
    let home = Home::new("[default]\nendpoint_url = ENDPOINT\n", "");
    let text = said(6, home.command().output().unwrap());
    for word in ["AWS_ACCESS_KEY_ID", "profile default", "instance metadata", "--no-sign-request", "--profile"] {
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
