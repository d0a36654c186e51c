//! The configuration and the credentials file of the AWS CLI, read with its rules: `=` or `:`
//! behind a key, names in quotes, lines that are indented deeper belong to the key above them
//! (`s3.addressing_style`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::environment::env;

/// The keys and values of a section.
type Section = BTreeMap<String, String>;

/// Every profile of the two files, and what profiles refer to.
#[derive(Clone, Debug, Default)]
pub(super) struct Profiles {
    profiles: BTreeMap<String, Section>,
    services: BTreeMap<String, Section>,
    sessions: BTreeMap<String, Section>,
}

fn aws_file(variable: &str, name: &str) -> Option<PathBuf> {
    match env(variable) {
        Some(path) => match path.strip_prefix("~/") {
            Some(rest) => Some(PathBuf::from(env("HOME")?).join(rest)),
            None => Some(PathBuf::from(path)),
        },
        None => Some(PathBuf::from(env("HOME")?).join(".aws").join(name)),
    }
}

/// The words of a section's name; one in quotes may hold blanks.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut rest) = (Vec::new(), text.trim());
    while let Some(first) = rest.chars().next() {
        let quoted = if matches!(first, '"' | '\'') { rest[1..].split_once(first) } else { None };
        let (word, behind) =
            quoted.unwrap_or_else(|| rest.split_once(char::is_whitespace).unwrap_or((rest, "")));
        words.push(word.to_string());
        rest = behind.trim_start();
    }
    words
}

/// The sections of a file.
fn sections(text: &str) -> Vec<(String, Section)> {
    let mut sections: Vec<(String, Section)> = Vec::new();
    let (mut above, mut depth) = (String::new(), 0);
    for line in text.trim_start_matches('\u{feff}').lines() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = bare.strip_prefix('[').and_then(|n| n.split(']').next()) {
            sections.push((name.to_string(), Section::new()));
            above.clear();
            continue;
        }
        let Some((_, section)) = sections.last_mut() else { continue };
        let indent = line.len() - line.trim_start().len();
        let nested = indent > depth && !above.is_empty();
        let sign: &[char] = if nested { &['='] } else { &['=', ':'] };
        let Some((key, value)) = bare.split_once(sign) else { continue };
        let (key, mut value) = (key.trim().to_lowercase(), value.trim());
        for mark in [" #", " ;"] {
            value = value.split(mark).next().unwrap_or_default().trim_end();
        }
        if nested {
            section.insert(format!("{above}.{key}"), value.to_string());
        } else {
            section.insert(key.clone(), value.to_string());
            (above, depth) = (if value.is_empty() { key } else { String::new() }, indent);
        }
    }
    sections
}

impl Profiles {
    /// Reads both files; one that is not there is empty.
    pub fn read() -> Profiles {
        let read =
            |path: Option<PathBuf>| path.and_then(|p| std::fs::read(p).ok()).unwrap_or_default();
        let config = read(aws_file("AWS_CONFIG_FILE", "config"));
        let credentials = read(aws_file("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
        Profiles::of(&String::from_utf8_lossy(&config), &String::from_utf8_lossy(&credentials))
    }

    fn of(config: &str, credentials: &str) -> Profiles {
        let mut all = Profiles::default();
        for (name, section) in sections(config) {
            let words = words(&name);
            let names: Vec<&str> = words.iter().map(String::as_str).collect();
            let (kind, name) = match names[..] {
                ["default"] if all.profiles.contains_key("default") => continue,
                ["default"] => (&mut all.profiles, "default"),
                ["profile", name] => (&mut all.profiles, name),
                ["services", name] => (&mut all.services, name),
                ["sso-session", name] => (&mut all.sessions, name),
                _ => continue,
            };
            kind.entry(name.to_string()).or_default().extend(section);
        }
        for (name, section) in sections(credentials) {
            let profile = all.profiles.entry(name.trim().to_string()).or_default();
            // The keys of this file come before all of the other one, and are not mixed with its.
            if section.contains_key("aws_access_key_id") {
                profile.retain(|key, _| !key.starts_with("aws_") && key != "credential_process");
            }
            profile.extend(section);
        }
        for profile in all.profiles.values_mut().filter(|p| p.contains_key("sso_session")) {
            profile.retain(|key, _| key != "sso_region" && key != "sso_start_url");
        }
        all
    }

    /// Whether there is a profile of this name.
    pub fn has(&self, profile: &str) -> bool {
        self.profiles.contains_key(profile)
    }

    /// A value of a profile; an empty one counts as none.
    pub fn value(&self, profile: &str, key: &str) -> Option<String> {
        self.profiles.get(profile)?.get(key).filter(|v| !v.is_empty()).cloned()
    }

    /// A value of the services that a profile names.
    pub fn of_services(&self, profile: &str, key: &str) -> Option<String> {
        self.services
            .get(&self.value(profile, "services")?)?
            .get(key)
            .filter(|v| !v.is_empty())
            .cloned()
    }

    /// Why this profile cannot assume its role, or the roles on the way to it, if that shows
    /// already.
    pub fn no_role(&self, profile: &str) -> Option<String> {
        let (mut at, mut seen) = (profile.to_string(), Vec::new());
        while self.value(&at, "role_arn").is_some() && !seen.contains(&at) {
            if self.value(&at, "mfa_serial").is_some() {
                return Some(format!(
                    "the profile {at} wants the code of an MFA device, which npk does not ask for"
                ));
            }
            let Some(source) = self.value(&at, "source_profile") else { break };
            if !self.has(&source) {
                return Some(format!(
                    "the profile {at} names the source_profile {source}, which is not there"
                ));
            }
            seen.push(std::mem::replace(&mut at, source));
        }
        None
    }

    /// All of it as one configuration file in the form that every reader of such files takes.
    pub fn plain_text(&self) -> String {
        let mut text = String::new();
        for (kind, sections) in [
            ("profile", &self.profiles),
            ("services", &self.services),
            ("sso-session", &self.sessions),
        ] {
            for (name, section) in sections {
                text += &format!("[{kind} {}]\n", plain_name(name));
                // A key comes before what is nested below it.
                let mut above = "";
                for (key, value) in section {
                    match key.split_once('.') {
                        Some((group, key)) => {
                            if group != above {
                                text += &format!("{group} =\n");
                            }
                            text += &format!("  {key} = {value}\n");
                            above = group;
                        }
                        None if matches!(key.as_str(), "source_profile" | "services") => {
                            text += &format!("{key} = {}\n", plain_name(value))
                        }
                        None if value.is_empty() => {}
                        None => text += &format!("{key} = {value}\n"),
                    }
                }
            }
        }
        text
    }
}

/// A profile's name without blanks and other signs that not every reader takes.
pub(super) fn plain_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-/.%@:+".contains(c);
    name.chars()
        .map(|c| if plain(c) { c.to_string() } else { format!("%{:X}", u32::from(c)) })
        .collect()
}
