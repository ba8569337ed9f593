//! `System`: what this daemon is and what it holds to.

use palisade_proto::v1::{self, system_server::System};
use tonic::{Request, Response, Status};

use super::convert;
use crate::{config::Limits, lifecycle::Lifecycle, sandbox::ENGINE, wire::WallState};

/// Serves `palisade.v1.System`.
pub struct Service(pub Lifecycle);

#[tonic::async_trait]
impl System for Service {
    async fn get_server_info(&self, _: Request<v1::GetServerInfoRequest>) -> Result<Response<v1::ServerInfo>, Status> {
        let config = self.0.config();
        let hello = self.0.hello();
        let limits = config
            .limits
            .rows()
            .into_iter()
            .chain(config.workers.rows())
            .chain(config.budgets.rows())
            .chain(Limits::fixed_rows())
            .map(|row| v1::Limit {
                name: row.name.into(),
                unit: row.unit.into(),
                default_value: convert::int(row.default),
                maximum: convert::int(row.max),
            });
        let walls = self.0.walls().into_iter().map(|wall| {
            let state = match wall.state {
                WallState::Verified => v1::wall::State::Verified,
                WallState::Missing => v1::wall::State::Missing,
                WallState::NotDelegated => v1::wall::State::NotDelegated,
            };
            v1::Wall { name: wall.name, state: state.into(), detail: wall.detail }
        });
        let mounts =
            config.mounts.iter().map(|m| v1::MountInfo { name: m.name.to_string(), read_only: m.writable.is_none() });
        Ok(Response::new(v1::ServerInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            engine: ENGINE.into(),
            engine_hash: hello.engine.clone(),
            limits: limits.collect(),
            walls: walls.collect(),
            mounts: mounts.collect(),
        }))
    }
}
