package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

// Annotations of commands.
const (
	readsSection = "section" // the section of the configuration file that it reads besides its own, such as serve's
	makesConfig  = "makes-configuration"
)

// valuesFor reads a configuration file strictly, all of it, and gives the values for one command: what is nearer to it is stronger. An
// error names the line.
func valuesFor(cmd *cobra.Command, raw []byte) (map[string]string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 {
		return nil, nil // empty
	}
	top := section{cmd: cmd.Root(), values: map[string]string{}, below: map[string]section{}}
	if err := top.read(doc.Content[0]); err != nil {
		return nil, err
	}
	out := maps.Clone(top.values)
	if other, ok := top.below[cmd.Annotations[readsSection]]; ok {
		maps.Copy(out, other.values)
	}
	for _, word := range strings.Fields(cmd.CommandPath())[1:] {
		var ok bool
		if top, ok = top.below[word]; !ok {
			break
		}
		maps.Copy(out, top.values)
	}
	return out, nil
}

// section is what the file says for a command and all below it.
type section struct {
	cmd    *cobra.Command
	values map[string]string
	below  map[string]section
}

func (s section) read(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want flags and their values, such as \"output: json\"", n.Line)
	}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if _, twice := s.values[key.Value]; twice || s.below[key.Value].cmd != nil {
			return fmt.Errorf("line %d: %s is there twice", key.Line, key.Value)
		}
		err := s.take(key, value)
		if err != nil && value.Kind == yaml.MappingNode && s.below[key.Value].cmd != nil {
			return err // it names a line below
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", key.Line, err)
		}
	}
	return nil
}

func (s section) take(key, value *yaml.Node) error {
	name := key.Value
	switch value.Kind {
	case yaml.MappingNode:
		for _, sub := range s.cmd.Commands() {
			if sub.Name() == name {
				s.below[name] = section{cmd: sub, values: map[string]string{}, below: map[string]section{}}
				return s.below[name].read(value)
			}
		}
		return fmt.Errorf("there is no command %q; known: %s", strings.TrimSpace(strings.TrimPrefix(s.cmd.CommandPath(), s.cmd.Root().Name())+" "+name),
			strings.Join(names(s.cmd), ", "))
	case yaml.SequenceNode, yaml.ScalarNode:
	default:
		return errors.New("anchors and aliases are not read")
	}
	if ofOneCall[name] {
		return fmt.Errorf("--%s is for one call alone", name)
	}
	if !s.hasFlag(name) {
		return s.noFlag(name)
	}
	var words []string
	for _, n := range append(value.Content, value) {
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			words = append(words, n.Value)
		}
	}
	s.values[name] = strings.Join(words, ",")
	return nil
}

func (s section) hasFlag(name string) bool {
	return hasFlag(s.cmd, name) || s.cmd.Root().PersistentFlags().Lookup(name) != nil
}

func (s section) noFlag(name string) error {
	if s.cmd.HasParent() {
		return fmt.Errorf("%s has no flag --%s", s.cmd.CommandPath(), name)
	}
	var near []string
	for _, c := range s.cmd.Commands() {
		if c.Name() == name {
			near = append(near, fmt.Sprintf("%s is a command, and wants its flags below it", name))
		}
	}
	return fmt.Errorf("no command has a flag --%s%s", name, strings.Join(slices.Insert(near, 0, ""), ": "))
}

// hasFlag says whether a command or one below it has a flag: a typing mistake must not pass in silence.
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
