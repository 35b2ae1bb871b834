package rack

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
)

var processorSpeed = regexp.MustCompile(`(?m)^cpu MHz\s*: ([0-9.]+)$`)

const noTimerCheck = "no_timer_check"

// ClockArgs are words for the command line of a kernel that boots on an emulated machine without Xen: it is told how fast the time stamp
// counter runs, which is the computer's own. While several machines boot at once one would measure it wrongly, and its clock would run
// several times too fast (seen: 4.5 times). Nor is the timer's interrupt checked: on a busy computer it comes too late for that check
// ("8254 timer not connected to IO-APIC"). If the speed is not known, only that is said.
func ClockArgs() string {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return noTimerCheck
	}
	m := processorSpeed.FindSubmatch(raw)
	if m == nil {
		return noTimerCheck
	}
	mhz, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || mhz < 100 {
		return noTimerCheck
	}
	return fmt.Sprintf(noTimerCheck+" tsc=reliable tsc_early_khz=%d", int(mhz*1000))
}
