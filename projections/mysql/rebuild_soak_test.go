//go:build soak

package mysql_test

import "testing"

func TestSoakDatabaseKilledWhileRebuilding(t *testing.T) { databaseKilled(t, 60) }
