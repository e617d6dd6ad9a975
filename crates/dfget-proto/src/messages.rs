//! Generated messages and services, a module for each package of the protocol.

#![expect(missing_docs, reason = "generated; the text is in `proto/`")]
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::allow_attributes,
    unreachable_pub,
    unused_qualifications,
    reason = "generated"
)]

/// What both services speak of.
pub mod common {
    /// Version 2.
    pub mod v2 {
        tonic::include_proto!("common.v2");
    }
}

/// The scheduler.
pub mod scheduler {
    /// Version 2.
    pub mod v2 {
        tonic::include_proto!("scheduler.v2");
    }
}

/// A peer.
pub mod dfdaemon {
    /// Version 2.
    pub mod v2 {
        tonic::include_proto!("dfdaemon.v2");
    }
}

/// Health of a gRPC server.
pub mod grpc {
    /// The service.
    pub mod health {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("grpc.health.v1");
        }
    }
}

/// dfget's own service.
pub mod dfget {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("dfget.v1");
    }
}
