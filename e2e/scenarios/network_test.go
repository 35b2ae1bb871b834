package scenarios

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"cloudengine/e2e/rack"
	"cloudengine/events"
	"cloudengine/projections"
)

// TestNetworks: two accounts with the same addresses, four VMs on two hosts. VMs of one account find each other by DHCP and DNS, also across
// hosts and after a move; nothing that a VM of the other account does reaches them.
func TestNetworks(t *testing.T) {
	hosts := ofRole(rack.RoleHost)
	for _, h := range hosts {
		logOnFailure(t, h)
	}
	underlay(t)
	accountOn(t, "demo")
	must(t, "account", "create", "rival")
	accountOn(t, "rival")
	netGuest(t, "na", hosts[0], "ce.net=nb")
	netGuest(t, "nb", hosts[1], "ce.net=na,10.0.0.4")
	netGuest(t, "ra", hosts[1], "ce.net=rb")
	netGuest(t, "rb", hosts[0], "ce.net=ra,10.0.0.4,10.77.3.1 ce.attack=10.0.0.1,10.0.0.2,10.0.0.3")
	leasedTo(t, "na", "10.0.0.2")
	leasedTo(t, "nb", "10.0.0.3")
	leasedTo(t, "ra", "10.0.0.2")
	leasedTo(t, "rb", "10.0.0.3")
	t.Run("reach", func(t *testing.T) {
		reaches(t, "na", "nb", "10.0.0.3")
		reaches(t, "nb", "na", "10.0.0.2")
		reaches(t, "ra", "rb", "10.0.0.3")
		apart(t, "nb", "10.0.0.4")
		apart(t, "rb", "10.77.3.1") // a host's own address
	})
	t.Run("move", func(t *testing.T) {
		must(t, "vm", "stop", "nb", "--account", "demo", "--wait", "--timeout", "3m")
		must(t, "vm", "start", "nb", "--account", "demo", "--host", hosts[0], "--wait", "--timeout", "5m")
		leasedTo(t, "nb", "10.0.0.3")
		reaches(t, "na", "nb", "10.0.0.3")
	})
	given := rows(t, projections.KindAddress)
	if len(given) != 4 {
		t.Errorf("given are %v", given)
	}
	for _, vm := range []string{"na", "nb", "ra", "rb"} {
		must(t, "vm", "stop", vm, "--account", accountOf(vm), "--wait", "--timeout", "3m")
		must(t, "vm", "delete", vm, "--account", accountOf(vm))
	}
	netsRemoved(t, hosts)
	verified(t)
}

// accountOf gives the account of a VM of this test.
func accountOf(vm string) string {
	if strings.HasPrefix(vm, "r") {
		return "rival"
	}
	return "demo"
}

// underlay joins the hosts' cards to a fabric that carries networks.
func underlay(t *testing.T) {
	must(t, "fabric", "create", "wire", "--transport", events.TransportVXLAN, "--subnet", "10.77.3.0/24")
	for _, m := range shared.Machines() {
		if m.Role == rack.RoleHost {
			must(t, "fabric", "join", "wire", m.Name, "--mac", m.NetMAC)
		}
	}
}

func accountOn(t *testing.T, account string) {
	must(t, "network", "create", "back", "--account", account)
	must(t, "subnet", "create", "back4", "--account", account, "--network", "back", "--cidr", "10.0.0.0/24")
}

func netGuest(t *testing.T, name, host, words string) {
	t.Helper()
	account := accountOf(name)
	must(t, "vm", "create", name, "--account", account, "--template", "guest", "--ram", "96MiB", "--vcpus", "1", "--network", "back", "--cmdline", "console=hvc0 "+words)
	must(t, "vm", "start", name, "--account", account, "--host", host, "--wait", "--timeout", "5m")
}

// leasedTo waits until a guest has its address, with all that goes with it.
func leasedTo(t *testing.T, vm, address string) {
	t.Helper()
	account := accountOf(vm)
	want := fmt.Sprintf(" address=%s/24 dns=10.0.0.1 domain=back.%s.internal host=%s mtu=1450", address, account, vm)
	eventually(t, 5*time.Minute, vm+" has its address", func() (bool, string) {
		out := must(t, "vm", "console", vm, "--account", account, "--bytes", "65536")
		return strings.Contains(out, want), out
	})
}

// reaches waits until a guest says that it has reached another by name, from now on.
func reaches(t *testing.T, vm, peer, address string) {
	t.Helper()
	line := regexp.MustCompile(`guest: reach ` + peer + ` at ` + regexp.QuoteMeta(address) + ` ok ms=\d+`)
	before := len(line.FindAllString(must(t, "vm", "console", vm, "--account", accountOf(vm), "--bytes", "65536"), -1))
	eventually(t, 3*time.Minute, vm+" reaches "+peer, func() (bool, string) {
		out := must(t, "vm", "console", vm, "--account", accountOf(vm), "--bytes", "65536")
		return len(line.FindAllString(out, -1)) > before, out
	})
}

// apart waits until a guest has tried an address twice, and fails if it was reached.
func apart(t *testing.T, vm, address string) {
	t.Helper()
	eventually(t, 3*time.Minute, vm+" has tried "+address, func() (bool, string) {
		out := must(t, "vm", "console", vm, "--account", accountOf(vm), "--bytes", "65536")
		if strings.Contains(out, "guest: reach "+address+" at "+address+" ok") {
			t.Fatalf("%s reaches %s:\n%s", vm, address, out)
		}
		return strings.Count(out, "guest: reach "+address+" at "+address+":") > 1, out
	})
}

// netsRemoved deletes all networks, and looks whether anything is left on the hosts.
func netsRemoved(t *testing.T, hosts []string) {
	for _, account := range []string{"demo", "rival"} {
		must(t, "subnet", "delete", "back4", "--account", account)
		must(t, "network", "delete", "back", "--account", account)
	}
	must(t, "account", "delete", "rival")
	for _, h := range hosts {
		eventually(t, time.Minute, h+" has no namespaces of networks", func() (bool, string) {
			out := sh(t, h, "ls /run/netns")
			return !strings.Contains(out, "ce-"), out
		})
		must(t, "fabric", "leave", "wire", h)
	}
	must(t, "fabric", "delete", "wire")
}
