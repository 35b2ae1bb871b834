// Package job is what the lab and the first program of its machine say to each other: where the machine finds its work, and the lines
// on its second serial port that say when the work begins and how it ended. It does neither.
package job

import (
	"fmt"
	"strconv"
	"strings"
)

// Places in the machine.
const (
	InitPath    = "/lab/init"     // its first program
	Path        = "/lab/job.json" // a Job
	ProgramPath = "/lab/program"  // what is run
	WorkDir     = "/lab/work"     // where it is run; testdata of a package is below
)

// Begin is the line that is written before the program starts.
const Begin = "--- lab: begin"

const end = "--- lab: exit code "

// Job is what a machine is to do.
type Job struct {
	Args     []string `json:"args"`
	LogLevel int      `json:"log_level"` // kernel messages more urgent than this level (0 to 7) come to the first serial port
}

// End is the line that is written after the program ended.
func End(code int) string { return end + strconv.Itoa(code) }

// ParseEnd reads such a line; ok is false for any other.
func ParseEnd(line string) (code int, ok bool) {
	text, ok := strings.CutPrefix(line, end)
	if !ok {
		return 0, false
	}
	code, err := strconv.Atoi(text)
	return code, err == nil
}

// KernelArgs are the words that a machine's kernel must be given to start its work; clock says how fast its counter runs, or is empty.
func KernelArgs(clock string) string {
	return strings.TrimSpace(fmt.Sprintf("console=ttyS0 quiet panic=-1 rdinit=%s mitigations=off nokaslr random.trust_cpu=on "+
		"net.ifnames=0 raid=noautodetect %s", InitPath, clock))
}
