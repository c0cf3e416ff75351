//! The section `admin`: where the endpoint for metrics and health listens, and for whom.
//!
//! Guarantees: an address that other hosts can reach is refused unless the file says that this is intended, because the endpoint
//! has neither TLS nor authentication. Opens nothing.

use super::node::Node;
use super::problem::Problem;
use super::types::{only_false, serialize_or_false};
use crate::net::host::{Host, Hosts};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

/// The admin endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Turned on.
    On(AdminListen),
    /// Turned off.
    Off,
}

/// Where the admin endpoint listens by default: reachable from this host only.
pub const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9600);

impl Default for Admin {
    fn default() -> Admin {
        Admin::On(AdminListen { listen: ADMIN_DEFAULT, insecure: false, hosts: Vec::new() })
    }
}

/// The settings of an endpoint that is on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminListen {
    /// Address and port, such as 127.0.0.1:9600.
    #[serde(deserialize_with = "address", default = "admin_default")]
    pub listen: SocketAddr,
    /// Allows a `listen` that other hosts can reach, although the endpoint has neither TLS nor authentication. By default, such an
    /// address is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// Names and addresses, without ports, by which clients may call the endpoint (header `Host`). By default only `localhost`,
    /// loopback addresses, and the address that the client reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

fn admin_default() -> SocketAddr {
    ADMIN_DEFAULT
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    struct Address;
    impl Visitor<'_> for Address {
        type Value = SocketAddr;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address and port such as 127.0.0.1:9600 or [::1]:9600")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<SocketAddr, E> {
            text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_str(Address)
}

impl<'de> Deserialize<'de> for Admin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Admin, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Admin;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map such as {listen: 127.0.0.1:9600}, or false")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<Admin, E> {
                only_false(on, &self).map(|()| Admin::Off)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Admin, A::Error> {
                AdminListen::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Admin::On)
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl Serialize for Admin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let settings = match self {
            Admin::On(settings) => Some(settings),
            Admin::Off => None,
        };
        serialize_or_false(settings, serializer)
    }
}

impl JsonSchema for Admin {
    fn schema_name() -> Cow<'static, str> {
        "Admin".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let listen = AdminListen::json_schema(generator);
        json_schema!({ "anyOf": [listen, {"const": false}] })
    }
}

/// An endpoint that will run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPlan {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The hosts that clients may name, in addition to the usual ones.
    pub hosts: Hosts,
}

/// The endpoint that the section asks for.
pub fn plan(admin: Admin, root: &Node, problems: &mut Vec<Problem>) -> Option<AdminPlan> {
    let Admin::On(AdminListen { listen, insecure, hosts }) = admin else { return None };
    if !insecure && !listen.ip().to_canonical().is_loopback() {
        let what = "other hosts can reach the admin endpoint, which has neither TLS nor authentication";
        problems.push(
            Problem::error(root.span_at(&["admin", "listen"]), what)
                .label(format!("{} is not a loopback address", listen.ip()))
                .help(format!(
                    "listen on 127.0.0.1:{}, or add `insecure: true` below `admin` if only trusted hosts reach this address",
                    listen.port()
                )),
        );
    }
    let mut known = Vec::with_capacity(hosts.len());
    for (number, text) in hosts.iter().enumerate() {
        match Host::parse(text) {
            Ok(host) => known.push(host),
            Err(what) => {
                let span = root.span_at(&["admin", "hosts", &number.to_string()]);
                let help = "write a host name such as logs.example, or an address such as 10.0.0.5 or fd00::5; ports are not compared";
                problems.push(Problem::error(span, format!("`{text}` is not a plain host")).label(what).help(help));
            }
        }
    }
    Some(AdminPlan { listen, hosts: Hosts(known) })
}
