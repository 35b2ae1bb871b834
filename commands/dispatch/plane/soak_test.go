//go:build soak

package plane_test

import (
	"testing"
	"time"
)

// The many-round forms of the kill tests: go test -tags soak -run Soak -timeout 60m ./commands/dispatch/plane

func TestSoakKilledUnderLoad(t *testing.T) { killAlone(t, 60, time.Second) }

func TestSoakLeaderLostUnderLoad(t *testing.T) { loseLeader(t, 8, 8) }
