package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"
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
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil, nil // no home: no file
		}
		path = filepath.Join(dir, "cloudengine", "config.yaml")
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && !asked {
		return nil, nil
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("read configuration: %w", err)}
	}
	a.configFile = path
	var tree map[string]any
	if err := yaml.Unmarshal(raw, &tree); err != nil {
		return nil, usageError{fmt.Errorf("read configuration %s: %w", a.configFile, err)}
	}
	out := map[string]string{}
	section := strings.Fields(cmd.CommandPath())
	for _, word := range append([]string{""}, section[1:]...) {
		below := tree
		if word != "" {
			var ok bool
			if below, ok = tree[word].(map[string]any); !ok {
				break
			}
		}
		flatten(below, out)
		tree = below
	}
	return out, a.unknownKeys(cmd.Root(), out)
}

func flatten(tree map[string]any, into map[string]string) {
	for k, v := range tree {
		switch v := v.(type) {
		case map[string]any: // a section
		case []any:
			words := make([]string, len(v))
			for i, w := range v {
				words[i] = fmt.Sprint(w)
			}
			into[k] = strings.Join(words, ",")
		default:
			into[k] = fmt.Sprint(v)
		}
	}
}

// unknownKeys refuses a key that is no flag of any command: a typing mistake must not pass in silence.
func (a *app) unknownKeys(root *cobra.Command, keys map[string]string) error {
	for k := range keys {
		if !hasFlag(root, k) {
			return usagef("configuration %s: no command has a flag --%s", a.configFile, k)
		}
	}
	return nil
}

func hasFlag(c *cobra.Command, name string) bool {
	if c.Flags().Lookup(name) != nil || c.PersistentFlags().Lookup(name) != nil {
		return true
	}
	for _, sub := range c.Commands() {
		if hasFlag(sub, name) {
			return true
		}
	}
	return false
}
