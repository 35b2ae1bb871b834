package gateway

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// Roles of a machine in its pair, as keepalived says them.
const (
	RoleMaster = "master"
	RoleBackup = "backup"
	RoleFault  = "fault"
)

// calls of conntrackd for each role, one after the other until one fails. One that takes over puts the other's connections into the kernel (-c);
// only if that was done they are forgotten in its cache (-f), and it takes stock of the kernel's (-R) and tells them (-B). One that is not
// active any more forgets its own, in the cache first (-f) and then in the kernel (-F): what ends in the kernel is then not told, or it would
// end connections of the active one. It asks for those (-n).
var calls = map[string][][]string{
	RoleMaster: {{"-c"}, {"-f", "external"}, {"-R"}, {"-B"}}, RoleBackup: {{"-f"}, {"-F"}, {"-n"}}, RoleFault: {},
}

// callTime bounds one call.
const callTime = 20 * time.Second

var errNoRole = errors.New("it is not a role")

// Notify is what keepalived calls after a change of role, in the namespace of the gateway. dir is the gateway's. The role is written down
// whatever becomes of the connections: it is so.
func Notify(ctx context.Context, dir, role string) error {
	list, ok := calls[role]
	if !ok {
		return fmt.Errorf("read %q: %w", role, errNoRole)
	}
	failed := write(filepath.Join(dir, roleFile), role+"\n")
	for _, args := range list {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		out, err := exec.CommandContext(ctx, conntrackdProgram, append([]string{"-C", filepath.Join(dir, conntrackdFile)}, args...)...).CombinedOutput()
		cancel()
		if err != nil {
			return errors.Join(failed, fmt.Errorf("call conntrackd %s: %w: %s", args[0], err, out))
		}
	}
	return failed
}
