//! Records as another system has them: where the tools find one, and what is in it.

use anyhow::{Context, Result, anyhow};
use discox_core::{
    BackendType, Layout, LayoutOptions, RegisterConfig,
    record::{Record, Service},
};

use super::ground::Place;

/// A layout on a backend.
#[derive(Clone, Debug)]
pub struct LaidOut {
    /// The backend.
    pub backend: BackendType,
    /// The layout.
    pub layout: Layout,
    /// What it is told.
    pub options: LayoutOptions,
}

impl LaidOut {
    /// discox's own.
    pub fn discox(backend: BackendType) -> Self {
        Self { backend, layout: Layout::Discox, options: LayoutOptions::default() }
    }

    /// Where the record of a place is, and what is written there for an attr.
    ///
    /// # Errors
    /// The layout cannot have such a record.
    pub fn written(&self, place: &Place, attr: &str) -> Result<(Place, String)> {
        let Some(encode) = self.layout.format(self.backend).and_then(|format| format.encode) else {
            return Ok((place.clone(), attr.to_owned()));
        };
        let record = self.record(place)?;
        let (directory, name) = record.key().rsplit_once('/').context("a key without `/`")?;
        let (prefix, service) = directory.rsplit_once('/').context("a directory without `/`")?;
        let place = Place { prefix: prefix.into(), service: service.into(), endpoint: name.into() };
        Ok((place, encode(&record, attr, &self.options)?))
    }

    /// What the record of a place says, where this was found.
    ///
    /// # Errors
    /// It is no record of the layout.
    pub fn read(&self, place: &Place, value: String) -> Result<String> {
        let Some(decode) = self.layout.format(self.backend).and_then(|format| format.decode) else {
            return Ok(value);
        };
        let record = self.record(place)?;
        let Place { prefix, service, .. } = place;
        let service = Service::in_layout(self.backend, prefix, service, self.layout, &self.options)?;
        let decoded = decode(record.name(), value.as_bytes(), &service, &self.options);
        let decoded = decoded.map_err(|reason| anyhow!("{reason}: {value}"))?;
        let found = decoded.found.first().with_context(|| format!("no endpoint: {value}"))?;
        // What the endpoint speaks is added to the attr.
        let attr = serde_json::from_slice::<serde_json::Map<_, _>>(&found.attr).ok();
        match attr.and_then(|mut attr| attr.remove("scheme").map(|_| attr)) {
            Some(attr) => Ok(serde_json::to_string(&attr)?),
            None => Ok(String::from_utf8(found.attr.to_vec())?),
        }
    }

    fn record(&self, place: &Place) -> Result<Record> {
        let config = RegisterConfig {
            discover_prefix: place.prefix.clone(),
            service_name: place.service.clone(),
            service_endpoint: place.endpoint.clone(),
            layout: self.layout,
            layout_options: self.options.clone(),
            ..Default::default()
        };
        Ok(Record::parse_on(self.backend, &config)?)
    }
}
