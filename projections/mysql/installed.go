package mysql

import "context"

// Installed gives the program and the version of the MariaDB server that a private server would be started from, or ErrNoServer.
func Installed(ctx context.Context) (path, version string, err error) { return findServer(ctx) }
