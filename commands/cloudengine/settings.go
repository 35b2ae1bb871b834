package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// ofOneCall are flags that make sense for one call alone, so neither the environment nor the file sets them.
var ofOneCall = map[string]bool{"help": true, "id": true, "reason": true, "override": true, "dry-run": true, "config": true}

// settings fills the flags that the command line did not set: from the environment, then from the file.
func (a *app) settings(cmd *cobra.Command) error {
	file, err := a.readConfig(cmd)
	if err != nil {
		return err
	}
	var failed []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || ofOneCall[f.Name] {
			return
		}
		name := envName(f.Name)
		value, from := os.Getenv(name), name
		if value == "" {
			var ok bool
			if value, ok = file[f.Name]; !ok {
				return
			}
			from = a.configFile
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			failed = append(failed, usagef("%s: --%s: %w", from, f.Name, err))
		}
	})
	return errors.Join(failed...)
}

func envName(flag string) string {
	return "CLOUDENGINE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// hostConfig is the file of a host that runs "serve"; the package installs it.
const hostConfig = "/etc/cloudengine/config.yaml"

// defaultConfig gives the user's file, or the host's if the user has none.
func defaultConfig() string {
	if dir, err := os.UserConfigDir(); err == nil {
		own := filepath.Join(dir, "cloudengine", "config.yaml")
		if _, err := os.Stat(own); !errors.Is(err, os.ErrNotExist) {
			return own
		}
	}
	return hostConfig
}

// readConfig reads the file's values for a command: those at the top level, and those below the command's noun, which are stronger:
//
//	server: nats://10.0.0.1:4222
//	serve:
//	  data: /var/lib/cloudengine
func (a *app) readConfig(cmd *cobra.Command) (map[string]string, error) {
	if env := os.Getenv("CLOUDENGINE_CONFIG"); a.configFile == "" {
		a.configFile = env
	}
	path, asked := a.configFile, a.configFile != ""
	if !asked {
		path = defaultConfig()
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && (!asked || cmd.Annotations[makesConfig] != "") {
		return nil, nil
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("read configuration: %w", err)}
	}
	a.configFile = path
	out, err := valuesFor(cmd, raw)
	if err != nil {
		return nil, usageError{fmt.Errorf("read configuration %s: %w", path, err)}
	}
	return out, nil
}
